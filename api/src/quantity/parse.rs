//! Reads quantities as upstream does, including which spellings it keeps as they are.

use super::{BINARY, DECIMAL, Format, Quantity, QuantityError};

/// The finest scale: a billionth.
const NANO: i32 = -9;
/// More digits than this make upstream leave its 64-bit arithmetic.
const FAST_DIGITS: i64 = 18;

/// A text taken apart.
struct Parts<'a> {
    negative: bool,
    /// Digits before the point, without leading zeros; `0` if there are none.
    integer: &'a str,
    /// Digits after the point.
    fraction: &'a str,
    suffix: &'a str,
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn split(text: &str) -> Result<Parts<'_>, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Format);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let rest = unsigned.trim_start_matches('0');
    let (integer, rest) = rest.split_at(digits(rest));
    let integer = if integer.is_empty() { "0" } else { integer };
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    let after = suffix.trim_start_matches(|c: char| "eEinumkKMGTP".contains(c));
    let after = after.strip_prefix(['-', '+']).unwrap_or(after);
    if digits(after) != after.len() {
        return Err(QuantityError::Format);
    }
    Ok(Parts { negative: text.starts_with('-'), integer, fraction, suffix })
}

/// The suffix's format, and its exponent: of two for the binary format, of ten for the others.
fn exponent_of(suffix: &str) -> Result<(Format, i32), QuantityError> {
    let position = |table: &[&str]| table.iter().position(|s| *s == suffix).and_then(|i| i32::try_from(i).ok());
    if let Some(index) = position(&DECIMAL) {
        return Ok((Format::DecimalSi, (index - 3) * 3));
    }
    if let Some(index) = position(&BINARY) {
        return Ok((Format::BinarySi, index * 10));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).and_then(|digits| digits.parse::<i16>().ok());
    exponent.map(|e| (Format::DecimalExponent, e.into())).ok_or(QuantityError::Suffix)
}

pub(super) fn parse(text: &str) -> Result<Quantity, QuantityError> {
    let parts = split(text)?;
    let (format, exponent) = exponent_of(parts.suffix)?;
    let shift = if format == Format::BinarySi { 0 } else { exponent };
    let (unscaled, dropped) = number(&parts);
    let fraction_digits = i32::try_from(parts.fraction.len()).map_err(|_| QuantityError::Numeric)?;
    let scale = (shift + dropped).checked_sub(fraction_digits).ok_or(QuantityError::Numeric)?;
    let mut quantity = Quantity { unscaled, scale, format, text: None };
    if format == Format::BinarySi {
        quantity.unscaled = unscaled.saturating_mul(1_i128 << exponent);
    }
    if is_kept(text, &parts, &quantity, exponent) {
        quantity.text = Some(text.into());
    }
    quantity.round_up(NANO);
    if format == Format::BinarySi {
        let (most, one) = (Quantity::new(i64::MAX, format), Quantity::new(1, format));
        if quantity > most {
            quantity = most;
        } else if !quantity.is_zero() && quantity < one {
            quantity.format = Format::DecimalSi;
        }
    }
    if parts.negative {
        quantity.unscaled = -quantity.unscaled;
    }
    Ok(quantity)
}

/// The digits as one number, and how many digits were dropped at its end because they do not fit.
fn number(parts: &Parts<'_>) -> (i128, i32) {
    let (mut value, mut dropped, mut lost) = (0_i128, 0, false);
    for digit in parts.integer.bytes().chain(parts.fraction.bytes()).map(|b| i128::from(b - b'0')) {
        match value.checked_mul(10).and_then(|v| v.checked_add(digit)).filter(|_| dropped == 0) {
            Some(next) => value = next,
            None => {
                dropped += 1;
                lost |= digit != 0;
            }
        }
    }
    (if lost { value.saturating_add(1) } else { value }, dropped)
}

/// Whether upstream keeps the text as it stands, though it may not be canonical (`1.500`, `1025Ki`).
fn is_kept(text: &str, parts: &Parts<'_>, quantity: &Quantity, exponent: i32) -> bool {
    if text == "0" {
        return true;
    }
    let count = |digits: &str| i64::try_from(digits.len()).unwrap_or(i64::MAX);
    if quantity.format == Format::BinarySi {
        let precision = 15 - count(parts.integer) - i64::from(exponent) * 3 / 10 - 1;
        let number: i128 = parts.integer.parse().unwrap_or(0);
        return parts.fraction.is_empty() && precision >= 0 && number & 7 != 0;
    }
    let shifted = || parts.integer.bytes().chain(parts.fraction.bytes());
    let zeros_at_end = shifted().rev().take_while(|b| *b == b'0').count();
    count(parts.integer).saturating_add(count(parts.fraction)) <= FAST_DIGITS
        && quantity.scale >= NANO
        && quantity.scale % 3 == 0
        && zeros_at_end < 3
        && !parts.integer.starts_with('0')
}
