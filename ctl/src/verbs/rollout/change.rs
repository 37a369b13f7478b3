//! `rollout restart`, `pause` and `resume`.

use anyhow::bail;

use crate::error::Result;
use crate::flags::Args;
use crate::output::Told;
use crate::session::Session;
use crate::verbs::change::{change, for_each};

/// What is changed.
#[derive(Clone, Copy)]
enum What {
    Restart,
    Pause,
    Resume,
}

pub(crate) async fn restart(args: &Args) -> Result<()> {
    run(args, What::Restart).await
}

pub(crate) async fn pause(args: &Args) -> Result<()> {
    run(args, What::Pause).await
}

pub(crate) async fn resume(args: &Args) -> Result<()> {
    run(args, What::Resume).await
}

async fn run(args: &Args, what: What) -> Result<()> {
    let session = Session::open(args).await?;
    let mut told = Told::new(args)?;
    let now = api::time::rfc3339(jiff::Timestamp::now().as_second());
    for_each(&session, args, &args.words, async |target| {
        let is_rolled_out = ["Deployment", "DaemonSet", "StatefulSet"].contains(&target.resource.kind.as_str());
        let is_deployment = target.resource.is("apps", "Deployment");
        let (word, suits) = match what {
            What::Restart => ("restarting", is_rolled_out && target.resource.group == "apps"),
            What::Pause => ("pausing", is_deployment),
            What::Resume => ("resuming", is_deployment),
        };
        if !suits {
            bail!("{} {:?} {word} is not supported", target.resource.full_name(), target.name);
        }
        let changed = change(&session, args, target, "kubectl-rollout", |object| {
            let is_paused = object.pointer("/spec/paused") == Some(&true.into());
            let why = match (what, is_paused) {
                (What::Restart, true) => "can't restart paused deployment (run rollout resume first)",
                (What::Pause, true) => "is already paused",
                (What::Resume, false) => "is not paused",
                _ => "",
            };
            if !why.is_empty() {
                bail!("{} {:?} {why}", target.resource.full_name(), target.name);
            }
            match what {
                What::Restart => {
                    let annotation = "kubectl.kubernetes.io/restartedAt";
                    object["spec"]["template"]["metadata"]["annotations"][annotation] = now.as_str().into();
                }
                What::Pause => object["spec"]["paused"] = true.into(),
                What::Resume => object["spec"]["paused"] = false.into(),
            }
            Ok(())
        })
        .await?;
        let said = match what {
            What::Restart => "restarted",
            What::Pause => "paused",
            What::Resume => "resumed",
        };
        told.did(target, said, &changed.object)
    })
    .await
}
