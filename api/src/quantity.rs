//! `resource.Quantity`: fixed-point numbers with decimal (`500m`, `2k`), binary (`64Mi`) or exponent (`1e3`) suffixes.
//!
//! A quantity is an integer times a power of ten. Values are exact to 38 digits; beyond them they are rounded away from
//! zero. As upstream, nothing finer than a billionth exists, and binary quantities end at 2^63-1.

mod parse;

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

/// Why a text is no quantity; the words are upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// How a quantity is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySi,
    /// `12M`
    #[default]
    DecimalSi,
}

/// A quantity. Comparison is by value: `1` equals `1000m`.
#[derive(Clone, Debug, Default)]
pub struct Quantity {
    /// The value is `unscaled` × 10^`scale`.
    unscaled: i128,
    scale: i32,
    format: Format,
    /// The text it was read from, where upstream keeps that as it is.
    text: Option<Box<str>>,
}

impl Quantity {
    pub fn new(value: i64, format: Format) -> Self {
        Self { unscaled: value.into(), scale: 0, format, text: None }
    }

    /// A quantity of thousandths.
    pub fn milli(value: i64, format: Format) -> Self {
        Self { unscaled: value.into(), scale: -3, format, text: None }
    }

    /// A quantity of billionths, the finest there are.
    pub fn nano(value: i64, format: Format) -> Self {
        Self { unscaled: value.into(), scale: -9, format, text: None }
    }

    /// # Errors
    /// The text is no quantity.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        parse::parse(text)
    }

    /// Reads a JSON text or number; null is zero.
    ///
    /// # Errors
    /// As [`Quantity::parse`].
    pub fn from_value(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::Null => Ok(Self::default()),
            Value::String(text) => Self::parse(text.trim()),
            Value::Number(number) => Self::parse(&number.to_string()),
            _ => Err(QuantityError::Format),
        }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn is_zero(&self) -> bool {
        self.unscaled == 0
    }

    pub fn is_negative(&self) -> bool {
        self.unscaled < 0
    }

    /// The value in units, rounded away from zero; clamped to 64 bits.
    pub fn value(&self) -> i64 {
        self.scaled_value(0)
    }

    /// The value in thousandths, rounded away from zero; clamped to 64 bits.
    pub fn milli_value(&self) -> i64 {
        self.scaled_value(-3)
    }

    /// The value in units of 10^`scale`, rounded away from zero; clamped to 64 bits.
    pub fn scaled_value(&self, scale: i32) -> i64 {
        let (value, _) = self.at_scale(scale);
        i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
    }

    /// The unscaled value for another scale, rounded away from zero and clamped, and whether it is exact.
    fn at_scale(&self, scale: i32) -> (i128, bool) {
        let difference = i64::from(self.scale) - i64::from(scale);
        if difference >= 0 {
            return match scale_up(self.unscaled, difference) {
                Some(value) => (value, true),
                None => (if self.unscaled < 0 { i128::MIN } else { i128::MAX }, false),
            };
        }
        match scale_up(1, -difference) {
            Some(divisor) => {
                let exact = self.unscaled % divisor == 0;
                let away = if exact { 0 } else { self.unscaled.signum() };
                (self.unscaled / divisor + away, exact)
            }
            None => (self.unscaled.signum(), self.unscaled == 0),
        }
    }

    /// The value as a float, which may lose precision.
    pub fn as_f64(&self) -> f64 {
        // Both casts may round; that is what a float means.
        self.unscaled as f64 * 10_f64.powi(self.scale)
    }

    /// Adds; a sum that began at zero takes the other's format.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, other.unscaled);
    }

    /// Subtracts; a difference that began at zero takes the other's format.
    pub fn sub(&mut self, other: &Self) {
        self.combine(other, other.unscaled.saturating_neg());
    }

    fn combine(&mut self, other: &Self, addend: i128) {
        self.text = None;
        if self.is_zero() {
            self.format = other.format;
        }
        if addend == 0 {
            return;
        }
        if self.is_zero() {
            (self.unscaled, self.scale) = (addend, other.scale);
            return;
        }
        let scale = self.scale.min(other.scale);
        let (mine, _) = self.at_scale(scale);
        let (theirs, _) =
            Self { unscaled: addend, scale: other.scale, format: self.format, text: None }.at_scale(scale);
        self.unscaled = mine.saturating_add(theirs);
        self.scale = scale;
    }

    /// Multiplies by a count.
    pub fn mul(&mut self, count: i64) {
        self.text = None;
        self.unscaled = self.unscaled.saturating_mul(count.into());
    }

    /// Rounds away from zero to a multiple of 10^`scale`.
    pub fn round_up(&mut self, scale: i32) {
        if self.scale < scale {
            (self.unscaled, _) = self.at_scale(scale);
            self.scale = scale;
            self.text = None;
        }
    }

    /// Mantissa and exponent, a multiple of three, without factors of ten that the exponent could take.
    fn decimal(&self) -> (i128, i32) {
        let (mut mantissa, mut exponent) = (self.unscaled, self.scale);
        while mantissa != 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            exponent += 1;
        }
        let excess = exponent.rem_euclid(3);
        (mantissa.saturating_mul(10_i128.pow(excess.unsigned_abs())), exponent - excess)
    }
}

/// `value` × 10^`exponent`, if that fits.
fn scale_up(value: i128, exponent: i64) -> Option<i128> {
    if value == 0 {
        return Some(0);
    }
    let factor = 10_i128.checked_pow(u32::try_from(exponent).ok()?)?;
    value.checked_mul(factor)
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        let difference = i64::from(self.scale) - i64::from(other.scale);
        let signs = self.unscaled.signum().cmp(&other.unscaled.signum());
        if signs != Ordering::Equal || self.is_zero() {
            return signs;
        }
        // A number that cannot be written at the finer scale is the larger one in magnitude.
        let (negative, mine, theirs) = (self.is_negative(), self.unscaled, other.unscaled);
        let larger = if negative { Ordering::Less } else { Ordering::Greater };
        if difference >= 0 {
            scale_up(mine, difference).map_or(larger, |mine| mine.cmp(&theirs))
        } else {
            scale_up(theirs, -difference).map_or(larger.reverse(), |theirs| mine.cmp(&theirs))
        }
    }
}

/// The canonical text: the largest suffix without a fraction.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = &self.text {
            return f.write_str(text);
        }
        if self.is_zero() {
            return f.write_str("0");
        }
        if self.format == Format::BinarySi {
            let (mut mantissa, exact) = self.at_scale(0);
            // Small and fractional values are written decimal, so that nothing is rounded.
            if exact && mantissa.unsigned_abs() >= 1024 {
                let mut suffix = 0;
                while suffix < BINARY.len() - 1 && mantissa % 1024 == 0 {
                    mantissa /= 1024;
                    suffix += 1;
                }
                return write!(f, "{mantissa}{}", BINARY[suffix]);
            }
        }
        let (mantissa, exponent) = self.decimal();
        match (self.format, exponent) {
            (_, 0) => write!(f, "{mantissa}"),
            (Format::DecimalExponent, _) => write!(f, "{mantissa}e{exponent}"),
            (_, 19..) => write!(f, "{}E", Self { format: Format::DecimalSi, ..self.clone() }.at_scale(18).0),
            _ => {
                let index = usize::try_from(exponent / 3 + 3).unwrap_or(0);
                write!(f, "{mantissa}{}", DECIMAL.get(index).unwrap_or(&""))
            }
        }
    }
}

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// From 10^-9 in steps of a thousand.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

#[cfg(test)]
mod tests;
