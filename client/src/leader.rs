//! Leader election by a Lease object, as client-go's `leaderelection`: whoever holds the lease works, the others wait;
//! a
//! holder that cannot renew stops before another may start.
//!
//! A candidate whose identity is the holder's takes the lease over at once: it is the same process slot, whose former
//! process is dead. Whoever gives out identities must see to that (see [`Election::identity`]).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{ObjectMeta, PostParams};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Api;

/// How long a lease is good for, how long its holder tries to renew it, how often the others look, as client-go has it.
const LEASE_SECONDS: i32 = 15;
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// How often a holder renews while all is well: each time costs a write that is synced to disk, and the deadline leaves
/// room for a missed one.
const RENEW_PERIOD: Duration = Duration::from_secs(5);
/// How long one attempt may take: a server that hangs must not use up the deadline.
const ATTEMPT: Duration = Duration::from_secs(4);

/// The lease to hold, and in whose name.
#[derive(Clone, Debug)]
pub struct Election {
    pub namespace: String,
    pub name: String,
    /// Whoever bears the holder's identity leads at once, so no two living candidates may bear the same: it is unique
    /// for
    /// each process, or stands for a slot that one process at a time can have (a lock on a file).
    pub identity: String,
}

/// What this candidate last saw of the lease, and when it saw it change: other clocks are not trusted.
struct Observed {
    spec: LeaseSpec,
    at: Instant,
}

struct Candidate {
    election: Election,
    leases: Api<Lease>,
    observed: Option<Observed>,
    /// The lease as this candidate last wrote it: it can be renewed without being read again.
    held: Option<Lease>,
}

/// Waits until this candidate leads, then runs `work` with a token that is cancelled with the lead or with `stop`.
///
/// Returns `true` when `work` ended by `stop` or of itself, `false` when the lead was lost: the process should end
/// then, or stand again. The lease is given back at the end, so that the next candidate need not wait.
pub async fn run<F, R>(client: Client, election: Election, stop: CancellationToken, work: F) -> bool
where
    F: FnOnce(CancellationToken) -> R,
    R: Future<Output = ()>,
{
    let leases = Api::namespaced(client, &election.namespace);
    let mut candidate = Candidate { election, leases, observed: None, held: None };
    loop {
        if candidate.try_hold(ATTEMPT).await {
            break;
        }
        tokio::select! {
            () = stop.cancelled() => return true,
            () = tokio::time::sleep(RETRY_PERIOD) => {}
        }
    }
    tracing::info!(lease = candidate.election.name, identity = candidate.election.identity, "leading");
    let lead = stop.child_token();
    let kept = tokio::select! {
        () = work(lead.clone()) => true,
        () = candidate.renew_until_lost() => false,
    };
    lead.cancel();
    candidate.release().await;
    kept
}

impl Candidate {
    async fn renew_until_lost(&mut self) {
        let (mut last, mut renewed) = (Instant::now(), true);
        loop {
            if renewed {
                crate::beat::next(RENEW_PERIOD).await;
            } else {
                tokio::time::sleep(RETRY_PERIOD).await;
            }
            let began = Instant::now();
            renewed = self.try_hold(RENEW_DEADLINE.saturating_sub(last.elapsed()).min(ATTEMPT)).await;
            if renewed {
                last = began;
            } else if last.elapsed() + RETRY_PERIOD >= RENEW_DEADLINE {
                tracing::error!(lease = self.election.name, "lost the lead: the lease could not be renewed");
                return;
            }
        }
    }

    /// Takes or renews the lease; `false` when another holds it or the API could not be asked within `limit`.
    async fn try_hold(&mut self, limit: Duration) -> bool {
        match tokio::time::timeout(limit, self.hold()).await {
            Ok(Ok(held)) => held,
            Ok(Err(error)) => {
                tracing::debug!(lease = self.election.name, %error, "could not renew the lease");
                false
            }
            Err(_) => {
                tracing::debug!(lease = self.election.name, "renewing the lease took too long");
                false
            }
        }
    }

    async fn hold(&mut self) -> Result<bool, kube::Error> {
        let now = MicroTime(Timestamp::now());
        if let Some(mut lease) = self.held.take() {
            lease.spec.get_or_insert_default().renew_time = Some(now.clone());
            match self.leases.replace(&self.election.name, &PostParams::default(), &lease).await {
                Ok(written) => return Ok(self.keep(written)),
                // Somebody wrote or deleted it: look at it anew.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(error),
            }
        }
        let Some(mut lease) = self.leases.get_opt(&self.election.name).await? else {
            let made = self.leases.create(&PostParams::default(), &self.fresh_lease(now)).await?;
            return Ok(self.keep(made));
        };
        let spec = lease.spec.take().unwrap_or_default();
        self.observe(spec.clone());
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let mine = holder == self.election.identity;
        if !mine && !holder.is_empty() && !self.expired() {
            return Ok(false);
        }
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.election.identity.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(now.clone()),
            acquire_time: if mine { spec.acquire_time.clone() } else { Some(now) },
            lease_transitions: Some(spec.lease_transitions.unwrap_or(0) + i32::from(!mine)),
            ..spec
        });
        let written = self.leases.replace(&self.election.name, &PostParams::default(), &lease).await?;
        Ok(self.keep(written))
    }

    /// Remembers the lease as it was written: this candidate holds it.
    fn keep(&mut self, mut written: Lease) -> bool {
        self.observe(written.spec.clone().unwrap_or_default());
        written.metadata.managed_fields = None;
        self.held = Some(written);
        true
    }

    fn fresh_lease(&self, now: MicroTime) -> Lease {
        Lease {
            metadata: ObjectMeta { name: Some(self.election.name.clone()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.election.identity.clone()),
                lease_duration_seconds: Some(LEASE_SECONDS),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            }),
        }
    }

    fn observe(&mut self, spec: LeaseSpec) {
        if self.observed.as_ref().is_none_or(|seen| seen.spec != spec) {
            self.observed = Some(Observed { spec, at: Instant::now() });
        }
    }

    fn expired(&self) -> bool {
        self.observed.as_ref().is_none_or(|seen| {
            let seconds = seen.spec.lease_duration_seconds.unwrap_or(LEASE_SECONDS).max(1);
            seen.at.elapsed() > Duration::from_secs(seconds.unsigned_abs().into())
        })
    }

    async fn release(&mut self) {
        self.held = None;
        let released = async {
            let Some(mut lease) = self.leases.get_opt(&self.election.name).await? else { return Ok(()) };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() != Some(self.election.identity.as_str()) {
                return Ok(());
            }
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            self.leases.replace(&self.election.name, &PostParams::default(), &lease).await.map(|_| ())
        };
        // A lease that cannot be given back runs out by itself; a stop must not hang on it.
        match tokio::time::timeout(Duration::from_secs(2), released).await {
            Ok(Ok(())) => {}
            Ok(Err(kube::Error::Api(status))) => tracing::debug!(%status, "could not give the lease back"),
            Ok(Err(error)) => tracing::debug!(%error, "could not give the lease back"),
            Err(_) => tracing::debug!("giving the lease back took too long"),
        }
    }
}

#[cfg(test)]
mod tests;
