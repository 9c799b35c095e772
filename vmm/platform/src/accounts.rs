//! Users and groups of this machine, by name.

use std::ffi::{CStr, CString};
use std::io;

/// Room for the texts of one entry at first; it is doubled where it does not suffice.
const ENTRY_BYTES: usize = 1024;
/// Room beyond which an entry is not believed.
const MAX_ENTRY_BYTES: usize = 1 << 20;

/// The number of a user, given by name or as a number; `None` if there is no user of this name.
///
/// # Errors
/// The operating system cannot tell.
pub fn user_id(name: &str) -> io::Result<Option<u32>> {
    number_or(name, |name| {
        let mut entry = std::mem::MaybeUninit::<libc::passwd>::uninit();
        look_up(|room| {
            let mut found = std::ptr::null_mut();
            // SAFETY: `name` ends with a zero; `entry`, `room` and `found` outlive the call, which
            // writes no more than the size that is given.
            let error = unsafe {
                libc::getpwnam_r(
                    name.as_ptr(),
                    entry.as_mut_ptr(),
                    room.as_mut_ptr().cast(),
                    room.len(),
                    &mut found,
                )
            };
            // SAFETY: what is found is `entry`, which the call has filled in.
            let id = (!found.is_null()).then(|| unsafe { (*found).pw_uid });
            (error, id)
        })
    })
}

/// The number of a group, as [`user_id`].
///
/// # Errors
/// The operating system cannot tell.
pub fn group_id(name: &str) -> io::Result<Option<u32>> {
    number_or(name, |name| {
        let mut entry = std::mem::MaybeUninit::<libc::group>::uninit();
        look_up(|room| {
            let mut found = std::ptr::null_mut();
            // SAFETY: as in `user_id`.
            let error = unsafe {
                libc::getgrnam_r(
                    name.as_ptr(),
                    entry.as_mut_ptr(),
                    room.as_mut_ptr().cast(),
                    room.len(),
                    &mut found,
                )
            };
            // SAFETY: what is found is `entry`, which the call has filled in.
            let id = (!found.is_null()).then(|| unsafe { (*found).gr_gid });
            (error, id)
        })
    })
}

/// A number stands for itself, and a name for what `by_name` finds.
fn number_or(
    name: &str,
    by_name: impl FnOnce(&CStr) -> io::Result<Option<u32>>,
) -> io::Result<Option<u32>> {
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
        // The largest number means "leave it as it is" to chown(2).
        return Ok(name.parse().ok().filter(|id| *id != u32::MAX));
    }
    match CString::new(name) {
        Ok(name) => by_name(&name),
        Err(_) => Ok(None),
    }
}

/// Asks with more and more room. `ask` returns the error's number and what it has found.
fn look_up(mut ask: impl FnMut(&mut [u8]) -> (i32, Option<u32>)) -> io::Result<Option<u32>> {
    let mut room = vec![0; ENTRY_BYTES];
    loop {
        match ask(&mut room) {
            (libc::EINTR, _) => {}
            (libc::ERANGE, _) if room.len() < MAX_ENTRY_BYTES => room.resize(2 * room.len(), 0),
            (_, Some(id)) => return Ok(Some(id)),
            // All of these mean that there is no such name (getpwnam_r(3)).
            (0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM, None) => return Ok(None),
            (error, None) => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found() {
        assert_eq!(user_id("root").unwrap(), Some(0));
        assert_eq!(group_id("root").unwrap(), Some(0));
        assert_eq!(user_id("4711").unwrap(), Some(4711));
        for name in ["no-such-name-here", "", "a\0b", "4294967295", "99999999999", "+1"] {
            assert_eq!(user_id(name).unwrap(), None, "{name:?}");
            assert_eq!(group_id(name).unwrap(), None, "{name:?}");
        }
    }
}
