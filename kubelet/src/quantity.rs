//! Quantities as the kubelet needs them: whole units or thousandths, rounded up.

use api::quantity::Quantity;

/// The quantity in its unit; `None` when it is no quantity.
pub fn value(text: &str) -> Option<i64> {
    Quantity::parse(text).ok().map(|q| q.value())
}

/// The quantity in thousandths of its unit.
pub fn millis(text: &str) -> Option<i64> {
    Quantity::parse(text).ok().map(|q| q.milli_value())
}
