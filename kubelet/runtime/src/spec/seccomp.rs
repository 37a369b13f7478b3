//! System call filters: the runtime's default, or a profile on the node.

use serde_json::Value;

use crate::cri::{SeccompProfile, SecurityContext};

/// Longest profile that is read from the node.
const PROFILE_LIMIT: u64 = 4 << 20;

/// The OCI object; `None` leaves system calls alone.
pub fn profile(security: &SecurityContext) -> Result<Option<Value>, String> {
    match &security.seccomp {
        SeccompProfile::Unconfined | SeccompProfile::RuntimeDefault => Ok(None),
        SeccompProfile::Localhost(path) => {
            let named = |error: String| format!("read seccomp profile {path}: {error}");
            let length = std::fs::metadata(path).map_err(|error| named(error.to_string()))?.len();
            if length > PROFILE_LIMIT {
                return Err(named("it is too large".into()));
            }
            let text = std::fs::read(path).map_err(|error| named(error.to_string()))?;
            serde_json::from_slice(&text).map(Some).map_err(|error| named(error.to_string()))
        }
    }
}
