//! Who may come in, by the way they come.
//!
//! | way | reads | changes |
//! |---|---|---|
//! | Unix socket, mode 0600 | yes: the file's rights were the check | yes |
//! | dashboard on a loopback address | yes, unless the browser was led there by a host name | token |
//! | dashboard on any other address | token; the empty page itself is free | token |
//!
//! Dumps hold frames of the guest's: on the network they take the token, wherever it is.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, Method, header};

use super::error::{ApiError, ErrorCode};

/// Fewest characters of a token.
const TOKEN_CHARS: usize = 16;
/// Most bytes that are read of a token file.
const TOKEN_FILE_BYTES: u64 = 4096;

/// A shared secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("the token file {file} cannot be read")]
    Read {
        /// Its path.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// What it holds is no token.
    #[error(
        "the token file {file} must hold one line of at least 16 printable characters without spaces"
    )]
    Malformed {
        /// Its path.
        file: String,
    },
}

impl Token {
    /// A new one from the operating system's random numbers.
    ///
    /// # Errors
    /// There are none.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The one in a file.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        let file = || path.display().to_string();
        let mut text = String::new();
        std::fs::File::open(path)
            .and_then(|opened| opened.take(TOKEN_FILE_BYTES).read_to_string(&mut text))
            .map_err(|source| TokenError::Read { file: file(), source })?;
        let token = text.trim_end();
        let sound = token.len() >= TOKEN_CHARS && token.bytes().all(|b| b.is_ascii_graphic());
        if sound { Ok(Self(token.into())) } else { Err(TokenError::Malformed { file: file() }) }
    }

    /// Its characters, to be shown to whoever started the program.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it is the same, in a time that does not tell how much of it is.
    fn matches(&self, other: &str) -> bool {
        let (own, other) = (self.0.as_bytes(), other.as_bytes());
        let differing = own.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b));
        own.len() == other.len() && differing == 0
    }
}

/// The token that counts now: a file may be read again.
#[derive(Clone, Debug)]
pub(super) struct TokenCell(Arc<Mutex<Token>>);

impl TokenCell {
    pub(super) fn new(token: Token) -> Self {
        Self(Arc::new(Mutex::new(token)))
    }

    pub(super) fn set(&self, token: Token) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    fn get(&self) -> Token {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is behind a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing of the system.
    Free,
    /// The system.
    Normal,
    /// Frames of the guest's: on the network, only with the token.
    Secret,
}

/// A way in.
#[derive(Clone, Debug)]
pub(super) enum Door {
    /// The Unix socket.
    Local,
    /// The dashboard's address.
    Network {
        /// Whether it is reached from this machine only.
        loopback: bool,
        /// What opens it.
        token: TokenCell,
    },
}

impl Door {
    /// The door at an address.
    pub(super) fn at(address: SocketAddr, token: TokenCell) -> Self {
        Self::Network { loopback: address.ip().is_loopback(), token }
    }

    /// Whether a request may pass.
    ///
    /// # Errors
    /// It may not.
    pub(super) fn check(
        &self,
        method: &Method,
        headers: &HeaderMap,
        access: Access,
    ) -> Result<(), ApiError> {
        let Self::Network { loopback, token } = self else { return Ok(()) };
        if *loopback {
            check_host(headers)?;
        }
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let open = match access {
            Access::Free => true,
            Access::Normal => *loopback,
            Access::Secret => false,
        };
        if reads && open {
            return Ok(());
        }
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        match given.and_then(|value| value.strip_prefix("Bearer ")) {
            Some(given) if token.get().matches(given) => Ok(()),
            Some(_) => Err(ApiError::new(ErrorCode::Token, "the token is not the right one")),
            None => Err(ApiError::new(
                ErrorCode::Token,
                "this takes a token, in the header `Authorization: Bearer ...`",
            )),
        }
    }
}

/// A site elsewhere can have its own name resolve to this machine and then read what its visitor's
/// browser may read here; it cannot do that with an address.
fn check_host(headers: &HeaderMap) -> Result<(), ApiError> {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("");
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if name == "localhost" || bare.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::Host, "ask for this by address or as `localhost`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn door(address: &str) -> Door {
        Door::at(address.parse().unwrap(), TokenCell::new(Token(SECRET.into())))
    }

    fn passes(door: &Door, method: Method, host: &str, token: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(token) = token {
            headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        }
        door.check(&method, &headers, Access::Normal).is_ok()
    }

    #[test]
    fn on_loopback_reading_is_free_and_changing_takes_the_token() {
        let door = door("127.0.0.1:1");
        assert!(passes(&door, Method::GET, "127.0.0.1:1", None));
        assert!(!passes(&door, Method::POST, "127.0.0.1:1", None));
        assert!(!passes(&door, Method::POST, "127.0.0.1:1", Some("0123456789abcdeX")));
        assert!(!passes(&door, Method::POST, "127.0.0.1:1", Some("0123")));
        assert!(passes(&door, Method::POST, "127.0.0.1:1", Some(SECRET)));
    }

    #[test]
    fn beyond_loopback_everything_takes_the_token() {
        let door = door("0.0.0.0:1");
        assert!(!passes(&door, Method::GET, "box.example:1", None));
        assert!(passes(&door, Method::GET, "box.example:1", Some(SECRET)));
        assert!(door.check(&Method::GET, &HeaderMap::new(), Access::Free).is_ok());
        assert!(door.check(&Method::POST, &HeaderMap::new(), Access::Free).is_err());
    }

    #[test]
    fn what_holds_the_guests_frames_takes_the_token_everywhere() {
        for address in ["127.0.0.1:1", "0.0.0.0:1"] {
            let headers = HeaderMap::from_iter([(header::HOST, "127.0.0.1".parse().unwrap())]);
            assert!(door(address).check(&Method::GET, &headers, Access::Secret).is_err());
        }
        assert!(Door::Local.check(&Method::GET, &HeaderMap::new(), Access::Secret).is_ok());
    }

    #[test]
    fn a_foreign_name_for_this_machine_is_refused() {
        let door = door("[::1]:1");
        for host in ["[::1]:8470", "localhost:8470", "localhost", "127.0.0.1"] {
            assert!(passes(&door, Method::GET, host, None), "{host}");
        }
        for host in ["evil.example:8470", "evil.example", "", "localhost.evil.example"] {
            assert!(!passes(&door, Method::GET, host, None), "{host}");
        }
    }

    #[test]
    fn the_file_of_the_socket_was_the_check() {
        assert!(passes(&Door::Local, Method::POST, "anything", None));
    }

    #[test]
    fn a_token_file_holds_one_sound_line() {
        let path = std::env::temp_dir().join(format!("warmspare-token-{}", std::process::id()));
        let load = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Token::load(&path)
        };
        assert!(load("0123456789abcdef\n").is_ok());
        for bad in ["", "short\n", "0123456789 abcdef\n", "0123456789abcdef\nmore\n"] {
            assert!(matches!(load(bad), Err(TokenError::Malformed { .. })), "{bad:?}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Token::load(&path), Err(TokenError::Read { .. })));
    }

    #[test]
    fn random_tokens_differ_and_do_not_show_in_logs() {
        let (one, other) = (Token::random().unwrap(), Token::random().unwrap());
        assert_ne!(one, other);
        assert!(one.reveal().len() >= TOKEN_CHARS);
        assert!(!format!("{one:?}").contains(one.reveal()));
    }
}
