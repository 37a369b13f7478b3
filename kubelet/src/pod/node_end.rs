//! A Pod when its node ends: one that is always restarted comes back with the node, as after a reboot; of any other the
//! work was cut off, and that is a failure (upstream fails them all, and bare Pods never come back).

use k8s_openapi::api::core::v1::PodCondition;

use crate::shutdown::{Guard, MESSAGE, REASON};
use crate::spec;
use crate::time::{self, Nanos, SECOND};

use super::worker::{Stage, Worker};

/// How long an ended Pod waits for the API to take its last status.
const LAST_WORD: Nanos = 3 * SECOND;

/// Where a Pod is in the end of its node.
#[derive(Debug, Default)]
pub(super) struct NodeEnd {
    pub began: bool,
    /// Held until the Pod has ended and the API knows.
    guard: Option<Guard>,
    /// When it is let go although the API does not know.
    until: Option<Nanos>,
}

impl Worker {
    pub(super) fn node_ends(&mut self, guard: Guard) {
        self.node_end = NodeEnd { began: true, guard: Some(guard), until: None };
        let restarts = spec::restart_policy(&self.pod) == "Always";
        if restarts || self.stage != Stage::Running || self.containers.is_empty() || self.failure.is_some() {
            return;
        }
        if spec::is_terminal_phase(self.status.phase.as_deref()) || spec::is_deleting(&self.pod) {
            return;
        }
        self.failure = Some((REASON.to_owned(), MESSAGE.to_owned()));
        let disrupted = PodCondition {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
            reason: Some("TerminationByKubelet".to_owned()),
            message: Some(MESSAGE.to_owned()),
            last_transition_time: Some(time::api_time(time::now())),
            observed_generation: self.pod.metadata.generation,
            ..PodCondition::default()
        };
        let conditions = self.status.conditions.get_or_insert_default();
        conditions.retain(|condition| condition.type_ != disrupted.type_);
        conditions.push(disrupted);
    }

    /// Whether the Pod only rests until its node is there again.
    pub(super) fn comes_back(&self) -> bool {
        self.node_end.began && !self.removed && !spec::is_deleting(&self.pod) && self.failure.is_none()
    }

    /// Lets go of the node's end when there is nothing left to wait for; when to look again.
    pub(super) fn let_go(&mut self) -> Option<Nanos> {
        if self.node_end.guard.is_none() || self.stage < Stage::Killed {
            return None;
        }
        let now = time::now();
        let until = *self.node_end.until.get_or_insert(now + LAST_WORD);
        if self.removed || self.publisher.settled(&self.status) || now >= until {
            self.node_end.guard = None;
            return None;
        }
        Some(until)
    }
}
