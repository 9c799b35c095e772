//! Bytes and descriptors from a Unix socket.
//!
//! This is our own code instead of `vmm-sys-util`'s, whose descriptors stay open across `exec`: a
//! program that is started while a front-end is connected would inherit that guest's memory.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;

/// Most descriptors with one message: one for each memory region.
pub(super) const MAX_DESCRIPTORS: usize = 32;

/// Room for [`MAX_DESCRIPTORS`] behind their header, in words of eight bytes: its alignment.
const CONTROL_WORDS: usize = {
    // SAFETY: arithmetic on a length.
    let bytes = unsafe { libc::CMSG_SPACE((MAX_DESCRIPTORS * size_of::<RawFd>()) as u32) };
    (bytes as usize).div_ceil(8)
};

/// What came.
#[derive(Debug)]
pub(super) struct Received {
    /// Bytes; zero at the end of the stream.
    pub(super) bytes: usize,
    /// More descriptors came than there was room for, in the buffer or in this process. Those that
    /// did not fit are closed.
    pub(super) truncated: bool,
}

/// Reads what there is, without waiting. The descriptors that came with it are added to `files`.
///
/// # Errors
/// As recvmsg(2), `WouldBlock` among them.
pub(super) fn receive(
    stream: &UnixStream,
    to: &mut [u8],
    files: &mut Vec<File>,
) -> io::Result<Received> {
    let mut vector = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: to.len() };
    let mut control = [0u64; CONTROL_WORDS];
    // SAFETY: all zeroes are a valid header: no name, no vectors, no control data.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control);
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header describes `to` and `control`, which outlive the call; any bytes are valid
    // in both.
    let count = unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut header, flags) };
    if count < 0 {
        return Err(io::Error::last_os_error());
    }
    take_files(&header, files);
    let truncated = header.msg_flags & libc::MSG_CTRUNC != 0;
    Ok(Received { bytes: count as usize, truncated })
}

/// Takes ownership of all descriptors in a received header's control data.
fn take_files(header: &libc::msghdr, files: &mut Vec<File>) {
    // SAFETY: the kernel has filled the control data in and set its length.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: the macros give null or an aligned header within the control data.
    while let Some(message) = unsafe { next.as_ref() } {
        if message.cmsg_level == libc::SOL_SOCKET && message.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: arithmetic on a length.
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = message.cmsg_len.saturating_sub(head) / size_of::<RawFd>();
            // SAFETY: the data follow the header.
            let data = unsafe { libc::CMSG_DATA(next) }.cast::<RawFd>();
            for index in 0..count {
                // SAFETY: as many as the header's length says, not necessarily aligned; the kernel
                // has just made these descriptors for us, and nothing else owns them.
                files.push(unsafe { File::from_raw_fd(data.add(index).read_unaligned()) });
            }
        }
        // SAFETY: as for the first.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::sock_ctrl_msg::ScmSocket;

    fn received(descriptors: usize) -> (Received, Vec<File>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        let fds = vec![file.as_raw_fd(); descriptors];
        theirs.send_with_fds(&[&b"hello"[..]], &fds).unwrap();
        let mut files = Vec::new();
        let mut bytes = [0; 16];
        let received = receive(&ours, &mut bytes, &mut files).unwrap();
        assert_eq!(&bytes[..received.bytes], b"hello");
        (received, files)
    }

    #[test]
    fn descriptors_come_with_the_bytes_and_end_at_exec() {
        for count in [0, 1, 2, MAX_DESCRIPTORS] {
            let (received, files) = received(count);
            assert_eq!((received.truncated, files.len()), (false, count));
            for file in &files {
                // SAFETY: plain integers and an open descriptor.
                let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFD) };
                assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
            }
        }
    }

    #[test]
    fn too_many_descriptors_are_noticed() {
        let (received, files) = received(MAX_DESCRIPTORS + 1);
        assert!(received.truncated);
        assert!(files.len() <= MAX_DESCRIPTORS);
    }

    #[test]
    fn nothing_is_waited_for_and_an_end_is_zero_bytes() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut bytes, mut files) = ([0; 4], Vec::new());
        let error = receive(&ours, &mut bytes, &mut files).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(theirs);
        assert_eq!(receive(&ours, &mut bytes, &mut files).unwrap().bytes, 0);
    }
}
