//! Makes the `default` ServiceAccount of each namespace, and makes it again when it is deleted.

use std::sync::Arc;

use anyhow::Context as _;
use api::NamespacedName;
use client::Api;
use client::informer::{Change, key_of};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt;
use kube::api::{ObjectMeta, PostParams};

use crate::context::{Context, is_code};

const NAME: &str = "service-account-controller";
const ACCOUNT: &str = "default";

pub fn start(context: &Arc<Context>) {
    let queue = context.queue();
    let changed = queue.clone();
    context.namespaces.on_change(move |change| changed.add(key_of(&**change.object())));
    let changed = queue.clone();
    context.service_accounts.on_change(move |change| {
        if let Change::Deleted(account) = change
            && account.name_any() == ACCOUNT
        {
            changed.add(NamespacedName::new("", &account.namespace().unwrap_or_default()));
        }
    });
    let (namespaces, accounts) = (context.namespaces.clone(), context.service_accounts.clone());
    let ready = async move {
        namespaces.synced().await;
        accounts.synced().await;
    };
    let (client, context_) = (context.client(NAME), Arc::clone(context));
    context.spawn(NAME, queue, 1, ready, move |key| {
        let (client, context) = (client.clone(), Arc::clone(&context_));
        async move {
            let namespace = context.namespaces.get("", &key.name);
            let wanted = namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none());
            if !wanted || context.service_accounts.get(&key.name, ACCOUNT).is_some() {
                return Ok(());
            }
            let account = ServiceAccount {
                metadata: ObjectMeta { name: Some(ACCOUNT.to_owned()), ..ObjectMeta::default() },
                ..ServiceAccount::default()
            };
            let api: Api<ServiceAccount> = Api::namespaced(client, &key.name);
            match api.create(&PostParams::default(), &account).await {
                // It is there, or the namespace goes.
                Err(error) if is_code(&error, 409) || is_code(&error, 404) || is_code(&error, 403) => Ok(()),
                result => result.map(drop).with_context(|| format!("make ServiceAccount {}/{ACCOUNT}", key.name)),
            }
        }
    });
}
