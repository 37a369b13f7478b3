//! What can go wrong between this crate and the kernel.

use std::io;

/// Failure of a netlink exchange.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on the netlink socket failed.
    #[error("netlink: {operation}: {source}")]
    Socket { operation: &'static str, source: io::Error },
    /// The kernel refused one message; a transaction is then not applied at all.
    #[error("nf_tables refused {subject}: {source}{}", note(.extended))]
    Refused {
        /// The message that was refused, such as `add chain ip cox-1 services`.
        subject: String,
        source: io::Error,
        /// The kernel's own words (extended acknowledgement), where it gave any.
        extended: Option<String>,
    },
    /// The kernel sent something that does not parse.
    #[error("netlink: malformed answer to {0}")]
    Malformed(&'static str),
    /// What was to be described exceeds what one attribute or message can hold.
    #[error("nf_tables: {0} is too long for one netlink attribute")]
    TooLong(String),
}

fn note(extended: &Option<String>) -> String {
    extended.as_ref().map(|text| format!(" ({text})")).unwrap_or_default()
}

impl Error {
    /// The errno that the kernel answered with, if it did.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Socket { source, .. } | Self::Refused { source, .. } => source.raw_os_error(),
            Self::Malformed(_) | Self::TooLong(_) => None,
        }
    }

    /// Whether the subject does not exist (`ENOENT`).
    pub fn is_not_found(&self) -> bool {
        self.errno() == Some(libc::ENOENT)
    }
}
