//! The names of time zones (IANA's database): names alone, for nothing here reckons with a zone.

static NAMES: &str = include_str!("../data/time-zones.txt");

/// Whether there is a time zone of this name; capitals matter, as in upstream.
pub fn is_known(name: &str) -> bool {
    NAMES.lines().skip(1).any(|known| known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones() {
        for known in ["UTC", "Etc/UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Asia/Calcutta", "GMT+0"] {
            assert!(is_known(known), "{known}");
        }
        for unknown in ["", "Mars/Base", "europe/berlin", "Europe", "# Names", "Europe/Berlin ", "../etc/passwd"] {
            assert!(!is_known(unknown), "{unknown}");
        }
    }
}
