//! Descriptors over a Unix socket: the agent hands listeners to the proxy.
//!
//! In: a message and descriptors. Out: the same at the other end. A frame is its length (four bytes, big endian)
//! and the message; the descriptors travel with its first byte. Invariant: what a peer may send is bounded, and a
//! descriptor that was received is owned or closed.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// The kernel takes no more in one message; a buffer for as many is never cut.
const KERNEL_LIMIT: usize = 253;

/// What a peer may send in one frame.
#[derive(Clone, Copy, Debug)]
pub struct FdLimits {
    /// Bytes of the message.
    pub bytes: usize,
    /// Descriptors.
    pub descriptors: usize,
}

impl Default for FdLimits {
    fn default() -> Self {
        Self { bytes: 64 * 1024, descriptors: 128 }
    }
}

/// Sends one frame. The descriptors stay open here.
pub async fn send_fds(stream: &UnixStream, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if descriptors.len() > KERNEL_LIMIT {
        return Err(refused(format!("{} descriptors; at most {KERNEL_LIMIT} go in one message", descriptors.len())));
    }
    let length = u32::try_from(message.len()).map_err(|_| refused("a message of over 4 GiB".to_owned()))?;
    let frame = [&length.to_be_bytes(), message].concat();
    let descriptors: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let mut sent = 0;
    while sent < frame.len() {
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let control = if sent == 0 && !descriptors.is_empty() { &rights[..] } else { &[] };
        let part = [IoSlice::new(&frame[sent..])];
        sent += stream
            .async_io(Interest::WRITABLE, || {
                Ok(sendmsg::<()>(stream.as_raw_fd(), &part, control, MsgFlags::MSG_NOSIGNAL, None)?)
            })
            .await?;
    }
    Ok(())
}

/// Receives one frame. The caller sets the deadline.
pub async fn recv_fds(stream: &UnixStream, limits: FdLimits) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut descriptors = Vec::new();
    let mut length = [0; 4];
    fill(stream, &mut length, &mut descriptors, limits).await?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > limits.bytes {
        return Err(refused(format!("a message of {length} bytes; at most {} are taken", limits.bytes)));
    }
    let mut message = vec![0; length];
    fill(stream, &mut message, &mut descriptors, limits).await?;
    Ok((message, descriptors))
}

async fn fill(
    stream: &UnixStream,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    limits: FdLimits,
) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        let part = &mut buffer[filled..];
        let (count, more) = stream.async_io(Interest::READABLE, || receive(stream, part)).await?;
        descriptors.extend(more);
        if descriptors.len() > limits.descriptors {
            return Err(refused(format!("more than {} descriptors", limits.descriptors)));
        }
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += count;
    }
    Ok(())
}

fn receive(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = cmsg_space!([RawFd; KERNEL_LIMIT]);
    let mut parts = [IoSliceMut::new(buffer)];
    let received = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = message {
            descriptors.extend(raw.into_iter().map(own));
        }
    }
    Ok((received.bytes, descriptors))
}

#[allow(unsafe_code)]
fn own(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us in `recvmsg`; each is read from the control message
    // once, so nothing else in the process knows it, and nobody but the returned value closes it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn refused(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[tokio::test]
    async fn a_listener_arrives_with_its_queue_and_frames_do_not_mix() {
        let (a, b) = UnixStream::pair().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _waiting = std::net::TcpStream::connect(address).unwrap();
        send_fds(&a, br#"[{"name":"inbound"}]"#, &[listener.as_fd()]).await.unwrap();
        send_fds(&a, b"second", &[]).await.unwrap();
        drop(listener);

        let (message, mut descriptors) = recv_fds(&b, FdLimits::default()).await.unwrap();
        assert_eq!(message, br#"[{"name":"inbound"}]"#);
        let received = std::net::TcpListener::from(descriptors.remove(0));
        assert_eq!(received.local_addr().unwrap(), address);
        received.accept().unwrap();
        assert_eq!(recv_fds(&b, FdLimits::default()).await.unwrap().0, b"second");
        drop(a);
        let ended = recv_fds(&b, FdLimits::default()).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_frame_over_its_limits_is_refused() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let limits = FdLimits { bytes: 8, descriptors: 1 };
        let (a, b) = UnixStream::pair().unwrap();
        send_fds(&a, b"123456789", &[]).await.unwrap();
        assert_eq!(recv_fds(&b, limits).await.unwrap_err().to_string(), "a message of 9 bytes; at most 8 are taken");
        let (a, b) = UnixStream::pair().unwrap();
        send_fds(&a, b"1", &[file.as_fd(), file.as_fd()]).await.unwrap();
        assert_eq!(recv_fds(&b, limits).await.unwrap_err().to_string(), "more than 1 descriptors");
    }

    #[tokio::test]
    async fn a_large_message_arrives_in_parts() {
        let (a, b) = UnixStream::pair().unwrap();
        let message = vec![7; 4 * 1024 * 1024];
        let limits = FdLimits { bytes: message.len(), descriptors: 0 };
        let (sent, received) = tokio::join!(send_fds(&a, &message, &[]), recv_fds(&b, limits));
        sent.unwrap();
        assert_eq!(received.unwrap().0, message);
    }
}
