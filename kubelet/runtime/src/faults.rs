//! Places at which a test kills the process, as a power cut or `kill -9` would there. In release builds there is
//! nothing.

/// The variable that names the place.
pub const VARIABLE: &str = "COX_RUNTIME_DIES_AT";

/// Every place, in the order in which one Pod's life passes them.
pub const PLACES: [&str; 14] = [
    "sandbox directory made",
    "sandbox recorded",
    "sandbox prepared",
    "shim forked",
    "sandbox made",
    "container directory made",
    "container prepared",
    "container recorded",
    "container's group made",
    "container started",
    "container killed",
    "sandbox stopped",
    "container's group removed",
    "sandbox taken apart",
];

/// Dies here when the environment says so.
pub fn here(place: &'static str) {
    #[cfg(debug_assertions)]
    {
        debug_assert!(PLACES.contains(&place), "{place} is no known place");
        if std::env::var_os(VARIABLE).is_some_and(|wanted| wanted == place) {
            // A process may always kill itself.
            let _ = crate::syscall::process::signal(std::process::id() as i32, libc::SIGKILL);
        }
    }
    #[cfg(not(debug_assertions))]
    let _in_release_builds_nothing = place;
}
