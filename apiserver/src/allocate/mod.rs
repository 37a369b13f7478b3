//! What is given out once: Service addresses and node ports.

use api::{Object, Status};

use crate::pipeline::Call;

/// Holds what a write reserved until the write is visible.
pub struct Reservation;

pub fn on_create(_call: &Call<'_>, _new: &mut Object) -> Result<Reservation, Status> {
    Ok(Reservation)
}

pub fn on_update(_call: &Call<'_>, _new: &mut Object, _old: &Object) -> Result<Reservation, Status> {
    Ok(Reservation)
}

pub fn on_deleted(_call: &Call<'_>, _old: &Object) {}
