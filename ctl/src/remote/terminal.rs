//! The terminal of this process as a command's: raw while it lasts, its input and its size as they come.

use std::io::{IsTerminal as _, Read as _};
use std::os::fd::AsRawFd as _;

use bytes::Bytes;
use nix::sys::termios::{self, SetArg, Termios};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::command::{Input, QUEUE};
use crate::error::Result;

nix::ioctl_read_bad!(window_size, nix::libc::TIOCGWINSZ, nix::libc::winsize);

/// Bytes that are read at once.
const BLOCK: usize = 32 << 10;

/// The terminal in raw mode; it is put back when this is dropped.
pub(crate) struct Raw(Termios);

impl Raw {
    /// # Errors
    /// Standard input is no terminal that can be set.
    pub(crate) fn enter() -> Result<Self> {
        let stdin = std::io::stdin();
        let before = termios::tcgetattr(&stdin)?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(&stdin, SetArg::TCSADRAIN, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Err(error) = termios::tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &self.0) {
            eprintln!("error: set the terminal back: {error}");
        }
    }
}

pub(crate) fn is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// Columns and rows of the terminal.
fn size() -> Option<(u16, u16)> {
    let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize, which lives for the whole call.
    let done = unsafe { window_size(std::io::stdout().as_raw_fd(), &raw mut size) };
    done.is_ok().then_some((size.ws_col, size.ws_row))
}

/// Standard input, and with `sizes` the terminal's size at the start and when it changes.
pub(crate) fn input(with_stdin: bool, sizes: bool) -> Result<mpsc::Receiver<Input>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    if sizes {
        let sender = sender.clone();
        let mut changes = signal(SignalKind::window_change())?;
        tokio::spawn(async move {
            while let Some((width, height)) = size() {
                if sender.send(Input::Size(width, height)).await.is_err() || changes.recv().await.is_none() {
                    return;
                }
            }
        });
    }
    if with_stdin {
        std::thread::spawn(move || {
            let mut buffer = vec![0; BLOCK];
            loop {
                match std::io::stdin().read(&mut buffer) {
                    Ok(0) | Err(_) => return,
                    Ok(count) => {
                        if sender.blocking_send(Input::Data(Bytes::copy_from_slice(&buffer[..count]))).is_err() {
                            return;
                        }
                    }
                }
            }
        });
    }
    Ok(receiver)
}
