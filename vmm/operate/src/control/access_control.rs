//! Which requests are allowed, by the listener that they came through.
//!
//! | listener | reads | changes |
//! |---|---|---|
//! | Unix socket, mode 0600 | yes: the file's permissions are the check | yes |
//! | dashboard on a loopback address | yes, unless the request names a foreign host | token |
//! | dashboard on any other address | token; the page without data is free | token |
//!
//! Dumps hold frames of the guest, so on the dashboard they always take the token.
//!
//! A foreign host is one that is neither an address, nor `localhost`, nor on the list of names that a
//! proxy may hand on. Whoever has the token may name any.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, Method, header};

use super::error::{ApiError, ErrorCode};
use super::token::TokenCell;

/// How sensitive the answers of a path are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// They show nothing of the system.
    Free,
    /// They show the system.
    Normal,
    /// They hold frames of the guest: on the dashboard, only with the token.
    Secret,
}

/// The listener that a request came through.
#[derive(Clone, Debug)]
pub(super) enum AccessControl {
    /// The Unix socket.
    Local,
    /// The dashboard's address.
    Network {
        /// Whether it can only be reached from this machine.
        loopback: bool,
        /// The token that allows everything.
        token: TokenCell,
        /// Host names that a proxy may hand on.
        hosts: Vec<String>,
    },
}

impl AccessControl {
    /// The dashboard at this address, which a proxy may ask for under these host names.
    pub(super) fn at(address: SocketAddr, token: TokenCell, hosts: Vec<String>) -> Self {
        Self::Network { loopback: address.ip().is_loopback(), token, hosts }
    }

    /// Checks whether a request is allowed.
    ///
    /// # Errors
    /// The request is refused.
    pub(super) fn check(
        &self,
        method: &Method,
        headers: &HeaderMap,
        access: Access,
    ) -> Result<(), ApiError> {
        let Self::Network { loopback, token, hosts } = self else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer "));
        // A foreign site does not have the token, so a request that has it does not come from one.
        if given.is_some_and(|given| token.get().matches(given)) {
            return Ok(());
        }
        if *loopback {
            check_host(headers, hosts)?;
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
        match given {
            Some(_) => Err(ApiError::new(ErrorCode::Token, "the token is not the right one")),
            None => Err(ApiError::new(
                ErrorCode::Token,
                "this takes a token, in the header `Authorization: Bearer ...`",
            )),
        }
    }
}

/// Refuses DNS rebinding: a foreign site can let its own host name resolve to this machine and then
/// read what its visitor's browser may read here. It cannot do that with an address.
fn check_host(headers: &HeaderMap, allowed: &[String]) -> Result<(), ApiError> {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("");
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let is_listed = || allowed.iter().any(|listed| listed.eq_ignore_ascii_case(name));
    if name == "localhost" || bare.parse::<IpAddr>().is_ok() || is_listed() {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::Host,
        "ask for this by address or as `localhost`, or name the host of your proxy with \
         `--dashboard-host`",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::token::Token;

    const SECRET: &str = "0123456789abcdef";

    fn dashboard(address: &str) -> AccessControl {
        behind(address, &[])
    }

    fn behind(address: &str, hosts: &[&str]) -> AccessControl {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        AccessControl::at(address.parse().unwrap(), TokenCell::new(Token::fixed(SECRET)), hosts)
    }

    fn passes(control: &AccessControl, method: Method, host: &str, token: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(token) = token {
            headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        }
        control.check(&method, &headers, Access::Normal).is_ok()
    }

    #[test]
    fn on_loopback_reading_is_free_and_changing_takes_the_token() {
        let control = dashboard("127.0.0.1:1");
        assert!(passes(&control, Method::GET, "127.0.0.1:1", None));
        assert!(!passes(&control, Method::POST, "127.0.0.1:1", None));
        assert!(!passes(&control, Method::POST, "127.0.0.1:1", Some("0123456789abcdeX")));
        assert!(!passes(&control, Method::POST, "127.0.0.1:1", Some("0123")));
        assert!(passes(&control, Method::POST, "127.0.0.1:1", Some(SECRET)));
    }

    #[test]
    fn beyond_loopback_everything_takes_the_token() {
        let control = dashboard("0.0.0.0:1");
        assert!(!passes(&control, Method::GET, "box.example:1", None));
        assert!(passes(&control, Method::GET, "box.example:1", Some(SECRET)));
        assert!(control.check(&Method::GET, &HeaderMap::new(), Access::Free).is_ok());
        assert!(control.check(&Method::POST, &HeaderMap::new(), Access::Free).is_err());
    }

    #[test]
    fn what_holds_frames_of_the_guest_takes_the_token_everywhere() {
        for address in ["127.0.0.1:1", "0.0.0.0:1"] {
            let headers = HeaderMap::from_iter([(header::HOST, "127.0.0.1".parse().unwrap())]);
            assert!(dashboard(address).check(&Method::GET, &headers, Access::Secret).is_err());
        }
        assert!(
            AccessControl::Local.check(&Method::GET, &HeaderMap::new(), Access::Secret).is_ok()
        );
    }

    #[test]
    fn a_foreign_name_for_this_machine_is_refused() {
        let control = dashboard("[::1]:1");
        for host in ["[::1]:8470", "localhost:8470", "localhost", "127.0.0.1"] {
            assert!(passes(&control, Method::GET, host, None), "{host}");
        }
        for host in ["evil.example:8470", "evil.example", "", "localhost.evil.example"] {
            assert!(!passes(&control, Method::GET, host, None), "{host}");
        }
    }

    #[test]
    fn a_proxy_hands_on_names_from_the_list() {
        let control = behind("127.0.0.1:1", &["ws.example.org"]);
        for host in ["ws.example.org", "WS.example.org:443", "localhost"] {
            assert!(passes(&control, Method::GET, host, None), "{host}");
            assert!(!passes(&control, Method::POST, host, None), "{host}");
            assert!(passes(&control, Method::POST, host, Some(SECRET)), "{host}");
        }
        assert!(!passes(&control, Method::GET, "example.org", None));
    }

    #[test]
    fn whoever_has_the_token_may_name_any_host() {
        let control = dashboard("127.0.0.1:1");
        assert!(passes(&control, Method::GET, "ws.example.org", Some(SECRET)));
        assert!(!passes(&control, Method::GET, "ws.example.org", Some("0123456789abcdeX")));
    }

    #[test]
    fn the_permissions_of_the_socket_are_the_check() {
        assert!(passes(&AccessControl::Local, Method::POST, "anything", None));
    }
}
