//! The token that allows changes on the dashboard's address, and beyond loopback everything.

use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use platform::user_file;

/// Fewest characters of a token.
const TOKEN_CHARS: usize = 16;

/// A shared secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Why a token file is of no use.
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
    /// It does not hold a token.
    #[error(
        "the token file {file} must hold one line of at least 16 printable characters without spaces"
    )]
    Malformed {
        /// Its path.
        file: String,
    },
}

impl Token {
    /// A new token from the operating system's random numbers.
    ///
    /// # Errors
    /// They cannot be read.
    pub(super) fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The token in a file.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub(super) fn load(path: &Path) -> Result<Self, TokenError> {
        let file = || path.display().to_string();
        let text = user_file::read_text(path, user_file::TOKEN_BYTES)
            .map_err(|source| TokenError::Read { file: file(), source })?;
        let token = text.trim_end();
        let sound = token.len() >= TOKEN_CHARS && token.bytes().all(|b| b.is_ascii_graphic());
        if sound { Ok(Self(token.into())) } else { Err(TokenError::Malformed { file: file() }) }
    }

    /// This token, for tests.
    #[cfg(test)]
    pub(super) fn fixed(token: &str) -> Self {
        Self(token.into())
    }

    /// Its characters, to be shown to the user who started the program.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns true if the tokens are equal, in a time that does not tell how much of them is.
    pub(super) fn matches(&self, other: &str) -> bool {
        let (own, other) = (self.0.as_bytes(), other.as_bytes());
        let differing = own.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b));
        own.len() == other.len() && differing == 0
    }
}

/// The token that is valid now. It changes when its file is read again.
#[derive(Clone, Debug)]
pub(super) struct TokenCell(Arc<Mutex<Token>>);

impl TokenCell {
    pub(super) fn new(token: Token) -> Self {
        Self(Arc::new(Mutex::new(token)))
    }

    /// From now on, this token and no other is valid.
    pub(super) fn set(&self, token: Token) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    pub(super) fn get(&self) -> Token {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
