//! Round trips of every kind, and the reference server's own bytes.
