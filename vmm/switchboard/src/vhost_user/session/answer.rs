//! What a request comes to.

use crate::vhost_user::message::ConnectionError;

/// A request that was carried out.
pub(super) enum Answer {
    /// Done; an acknowledgement if one was asked for.
    Done,
    /// This body.
    Reply(Vec<u8>),
}

/// A request that was not carried out.
pub(super) enum RequestError {
    /// It makes no sense now, for the reason given in words. The connection goes on if an
    /// acknowledgement was asked for, which then says so.
    Refused(String),
    /// It cannot be understood: the connection ends.
    Fatal(ConnectionError),
}

impl From<ConnectionError> for RequestError {
    fn from(error: ConnectionError) -> Self {
        Self::Fatal(error)
    }
}

/// Refuses a request.
pub(super) fn refused(why: impl ToString) -> RequestError {
    RequestError::Refused(why.to_string())
}

/// What comes of a request.
pub(super) type Outcome = Result<Answer, RequestError>;

/// The body that one number is.
pub(super) fn u64_body(value: u64) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

/// A number as a reply.
pub(super) fn reply(value: u64) -> Outcome {
    Ok(Answer::Reply(u64_body(value)))
}
