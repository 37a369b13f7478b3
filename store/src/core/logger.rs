//! Raft's own log lines, handed to `tracing`.

use slog::{Drain, KV, Level, Logger, Never, OwnedKVList, Record, Serializer, o};

struct ToTracing;

struct Pairs(String);

impl Serializer for Pairs {
    fn emit_arguments(&mut self, key: slog::Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
        use std::fmt::Write;
        write!(self.0, " {key}={value}").map_err(|_| slog::Error::Other)
    }
}

impl Drain for ToTracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), Never> {
        let warn = record.level().is_at_least(Level::Warning);
        if !warn && !tracing::enabled!(target: "raft", tracing::Level::DEBUG) {
            return Ok(());
        }
        let mut pairs = Pairs(String::new());
        if record.kv().serialize(record, &mut pairs).is_err() {
            pairs.0.push_str(" (values unprintable)");
        }
        if warn {
            tracing::warn!(target: "raft", "{}{}", record.msg(), pairs.0);
        } else {
            tracing::debug!(target: "raft", "{}{}", record.msg(), pairs.0);
        }
        Ok(())
    }
}

pub fn logger() -> Logger {
    Logger::root(ToTracing, o!())
}
