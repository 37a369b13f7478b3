//! A joined node's certificates: which is to be renewed next and how, long before they end.

use std::time::Duration;

use anyhow::Result;
use apiserver_auth::pki::Standing;
use jiff::Timestamp;

use crate::certificates::until;
use crate::cluster::Machine;
use crate::commands::token::JoinToken;
use crate::join::{self, Membership};
use crate::layout::Layout;

/// A renewal that failed is tried again after this long.
const RETRY: Duration = Duration::from_secs(60);

/// What to do about the certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The client certificate still says who we are: the server renews it for that.
    RenewClient,
    /// It does not any more: only the token lets us in.
    JoinAnew,
    RenewServing,
    WaitUntil(Timestamp),
}

fn step(client: Standing, serving: Standing) -> Step {
    match (client, serving) {
        (Standing::Useless, _) => Step::JoinAnew,
        (Standing::Due, _) => Step::RenewClient,
        (Standing::Until(_), Standing::Useless | Standing::Due) => Step::RenewServing,
        (Standing::Until(client), Standing::Until(serving)) => Step::WaitUntil(client.min(serving)),
    }
}

/// A node, and where and by what it is a member.
pub struct Member<'a> {
    pub layout: &'a Layout,
    pub server: &'a str,
    pub token: &'a JoinToken,
    pub machine: &'a Machine,
}

/// What came of caring for the certificates.
pub enum Cared {
    /// There is a new client certificate: clients must be made anew.
    Renewed(Membership),
    /// Both are good until then.
    Good(Timestamp),
}

impl Member<'_> {
    /// Does what is due, until both certificates are good or the client's is new.
    pub async fn care(&self, membership: &Membership) -> Result<Cared> {
        loop {
            let now = Timestamp::now();
            let (client, serving) = join::standings(self.layout, membership, self.machine, now);
            match step(client, serving) {
                Step::WaitUntil(at) => return Ok(Cared::Good(at)),
                Step::JoinAnew => {
                    let joined = join::join(self.layout, self.server, self.token, self.machine).await?;
                    return Ok(Cared::Renewed(joined));
                }
                Step::RenewClient => {
                    let client = join::client_of(self.server, membership, self.machine).await?;
                    let renewed = join::renew_client(self.layout, &client, &membership.ca_pem, self.machine).await?;
                    return Ok(Cared::Renewed(renewed));
                }
                Step::RenewServing => {
                    let client = join::client_of(self.server, membership, self.machine).await?;
                    join::renew_serving(self.layout, &client, self.machine).await?;
                }
            }
        }
    }

    /// Cares until the client certificate is new; what fails is said and tried again. `good` is called when both are
    /// good for the first time.
    pub async fn renewed(&self, membership: &Membership, mut good: impl FnMut()) -> Membership {
        loop {
            let due = match self.care(membership).await {
                Ok(Cared::Renewed(renewed)) => return renewed,
                Ok(Cared::Good(due)) => {
                    good();
                    due
                }
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "the node's certificates could not be renewed");
                    Timestamp::now() + RETRY
                }
            };
            until(due).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_first_is_renewed_first() {
        let at = |second| Standing::Until(Timestamp::constant(second, 0));
        let cases = [
            ((at(5), at(9)), Step::WaitUntil(Timestamp::constant(5, 0))),
            ((at(9), at(5)), Step::WaitUntil(Timestamp::constant(5, 0))),
            ((at(9), Standing::Due), Step::RenewServing),
            ((at(9), Standing::Useless), Step::RenewServing),
            ((Standing::Due, at(9)), Step::RenewClient),
            ((Standing::Due, Standing::Useless), Step::RenewClient),
            ((Standing::Useless, at(9)), Step::JoinAnew),
            ((Standing::Useless, Standing::Useless), Step::JoinAnew),
        ];
        for ((client, serving), expected) in cases {
            assert_eq!(step(client, serving), expected, "{client:?} {serving:?}");
        }
    }
}
