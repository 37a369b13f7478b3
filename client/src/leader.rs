//! Leader election by a Lease object, as client-go's `leaderelection` with its defaults: whoever holds the lease works,
//! the others wait; a holder that cannot renew stops before another may start.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a lease is good for, how long its holder tries to renew it, how often everyone looks.
const LEASE_SECONDS: i32 = 15;
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// The lease to hold, and in whose name.
#[derive(Clone, Debug)]
pub struct Election {
    pub namespace: String,
    pub name: String,
    /// Unique for each candidate process: host name and a UUID.
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
    let mut candidate = Candidate { election, leases, observed: None };
    loop {
        if candidate.try_hold().await {
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
        let mut last = Instant::now();
        loop {
            tokio::time::sleep(RETRY_PERIOD).await;
            match tokio::time::timeout(RENEW_DEADLINE, self.try_hold()).await {
                Ok(true) => last = Instant::now(),
                Ok(false) | Err(_) if last.elapsed() < RENEW_DEADLINE => {}
                Ok(false) | Err(_) => {
                    tracing::error!(lease = self.election.name, "lost the lead: the lease could not be renewed");
                    return;
                }
            }
        }
    }

    /// Takes or renews the lease; `false` when another holds it or the API could not be asked.
    async fn try_hold(&mut self) -> bool {
        match self.hold().await {
            Ok(held) => held,
            Err(error) => {
                tracing::debug!(lease = self.election.name, %error, "could not renew the lease");
                false
            }
        }
    }

    async fn hold(&mut self) -> Result<bool, kube::Error> {
        let now = MicroTime(Timestamp::now());
        let Some(mut lease) = self.leases.get_opt(&self.election.name).await? else {
            let lease = self.fresh_lease(now);
            let made = self.leases.create(&PostParams::default(), &lease).await?;
            self.observe(made.spec.unwrap_or_default());
            return Ok(true);
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
        let held = self.leases.replace(&self.election.name, &PostParams::default(), &lease).await?;
        self.observe(held.spec.unwrap_or_default());
        Ok(true)
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
