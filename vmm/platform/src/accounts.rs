//! Users and groups of this machine, by name.

use std::io;

use nix::unistd::{Group, User};

/// The number of a user, given by name or as a number; `None` if there is no user of this name.
///
/// # Errors
/// The operating system cannot tell.
pub fn user_id(name: &str) -> io::Result<Option<u32>> {
    number_or(name, |name| Ok(User::from_name(name)?.map(|user| user.uid.as_raw())))
}

/// The number of a group, as [`user_id`].
///
/// # Errors
/// The operating system cannot tell.
pub fn group_id(name: &str) -> io::Result<Option<u32>> {
    number_or(name, |name| Ok(Group::from_name(name)?.map(|group| group.gid.as_raw())))
}

/// A number stands for itself, and a name for what `by_name` finds.
fn number_or(
    name: &str,
    by_name: impl FnOnce(&str) -> nix::Result<Option<u32>>,
) -> io::Result<Option<u32>> {
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
        // The largest number means "leave it as it is" to chown(2).
        return Ok(name.parse().ok().filter(|id| *id != u32::MAX));
    }
    if name.contains('\0') {
        return Ok(None);
    }
    Ok(by_name(name)?)
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
