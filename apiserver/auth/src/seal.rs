//! Encryption at rest: AES-256-GCM with keys that rotate, bound to the storage key so that values cannot be swapped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};

/// What sealed values begin with; the key's id and `:` follow.
const PREFIX: &[u8] = b"k8s:enc:cox:v1:";
/// Length of a key's id.
const ID_LEN: usize = 8;

/// Seals values before they are stored and opens them after they are read. `key` is the storage key.
pub trait Transformer: Send + Sync {
    fn seal(&self, key: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError>;

    /// Opens a sealed value; a value that was stored unsealed comes back as it is.
    fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError>;

    /// Whether the value should be written anew: it is unsealed, or sealed with an older key.
    fn is_stale(&self, sealed: &[u8]) -> bool;
}

/// Messages name no secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("encryption key file: line {0} is not 32 bytes in base64")]
    KeyFile(usize),
    #[error("encryption key file has no key")]
    NoKey,
    #[error("seal stored value: the system's random source or the cipher failed")]
    Seal,
    #[error("open stored value: it was sealed with key {0}, which encryption.key lacks")]
    UnknownKey(String),
    #[error("open stored value: it is damaged or belongs to another storage key")]
    Damaged,
}

struct Key {
    /// First hex digits of the key's SHA-256.
    id: String,
    key: LessSafeKey,
}

/// AES-256-GCM with random nonces. Sealed form: prefix, key id, `:`, nonce (12 bytes), cipher text, tag (16 bytes).
pub struct AesGcm {
    /// The first seals, all open.
    keys: Vec<Key>,
    random: SystemRandom,
}

impl AesGcm {
    /// Reads `encryption.key`: one key a line in base64, newest first. Lines that begin with `#` are comments.
    pub fn from_file_content(content: &str) -> Result<Self, SealError> {
        let mut keys = Vec::new();
        for (number, line) in content.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let secret = STANDARD.decode(line).map_err(|_| SealError::KeyFile(number + 1))?;
            let key = UnboundKey::new(&AES_256_GCM, &secret).map_err(|_| SealError::KeyFile(number + 1))?;
            let digest = ring::digest::digest(&ring::digest::SHA256, &secret);
            let id = crate::hex(&digest.as_ref()[..ID_LEN / 2]);
            keys.push(Key { id, key: LessSafeKey::new(key) });
        }
        if keys.is_empty() {
            return Err(SealError::NoKey);
        }
        Ok(Self { keys, random: SystemRandom::new() })
    }

    /// Content of a new `encryption.key`.
    pub fn new_file_content() -> Result<String, SealError> {
        let mut secret = [0; 32];
        SystemRandom::new().fill(&mut secret).map_err(|_| SealError::Seal)?;
        Ok(format!("{}\n", STANDARD.encode(secret)))
    }
}

impl Transformer for AesGcm {
    fn seal(&self, key: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let Some(newest) = self.keys.first() else { return Err(SealError::NoKey) };
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| SealError::Seal)?;
        let head = PREFIX.len() + ID_LEN + 1 + NONCE_LEN;
        let mut out = Vec::with_capacity(head + plain.len() + AES_256_GCM.tag_len());
        out.extend_from_slice(PREFIX);
        out.extend_from_slice(newest.id.as_bytes());
        out.push(b':');
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let tag = newest
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(key), &mut out[head..])
            .map_err(|_| SealError::Seal)?;
        out.extend_from_slice(tag.as_ref());
        Ok(out)
    }

    fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let Some(rest) = sealed.strip_prefix(PREFIX) else { return Ok(sealed.to_vec()) };
        let (id, rest) = rest.split_at_checked(ID_LEN + 1).ok_or(SealError::Damaged)?;
        let id = String::from_utf8_lossy(id.strip_suffix(b":").ok_or(SealError::Damaged)?);
        let used = self.keys.iter().find(|k| k.id == id).ok_or_else(|| SealError::UnknownKey(id.into_owned()))?;
        let (nonce, cipher) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::Damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Damaged)?;
        let mut buffer = cipher.to_vec();
        let plain = used.key.open_in_place(nonce, Aad::from(key), &mut buffer).map_err(|_| SealError::Damaged)?;
        let length = plain.len();
        buffer.truncate(length);
        Ok(buffer)
    }

    fn is_stale(&self, sealed: &[u8]) -> bool {
        let newest = self.keys.first().map_or("", |k| k.id.as_str());
        !sealed.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with(newest.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let old = AesGcm::new_file_content().unwrap();
        let new = AesGcm::new_file_content().unwrap();
        let before = AesGcm::from_file_content(&old).unwrap();
        let after = AesGcm::from_file_content(&format!("# newest first\n{new}{old}")).unwrap();
        let key = b"/registry/secrets/default/s";
        let sealed = before.seal(key, b"hidden").unwrap();
        assert!(!sealed.windows(6).any(|w| w == b"hidden"));
        assert_ne!(sealed, before.seal(key, b"hidden").unwrap(), "nonces differ");
        assert_eq!(after.open(key, &sealed).unwrap(), b"hidden");
        assert!(after.is_stale(&sealed) && !before.is_stale(&sealed) && after.is_stale(b"{}"));
        assert_eq!(after.open(key, b"{}").unwrap(), b"{}", "stored before encryption was on");

        assert_eq!(before.open(b"/registry/secrets/default/t", &sealed), Err(SealError::Damaged));
        let newer = after.seal(key, b"hidden").unwrap();
        assert!(matches!(before.open(key, &newer), Err(SealError::UnknownKey(_))));
        for at in PREFIX.len()..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert!(before.open(key, &flipped).is_err(), "byte {at}");
            assert!(before.open(key, &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn refuses_bad_key_files() {
        assert_eq!(AesGcm::from_file_content("\n# none\n").err(), Some(SealError::NoKey));
        assert_eq!(AesGcm::from_file_content("\nabc\n").err(), Some(SealError::KeyFile(2)));
        assert_eq!(AesGcm::from_file_content("AAAA\n").err(), Some(SealError::KeyFile(1)));
    }
}
