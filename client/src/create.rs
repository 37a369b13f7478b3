//! Creating many objects alike: the body is written once, and of each answer only the name is read.

use bytes::Bytes;
use kube::Client;
use kube::api::PostParams;
use kube::core::Request;
use serde::Deserialize;

use crate::{Api, ToJson};

/// Creates objects of one body, each with a name of its own (`metadata.generateName`).
#[derive(Clone)]
pub struct Copies {
    client: Client,
    path: String,
    body: Bytes,
}

#[derive(Deserialize)]
struct Named {
    metadata: Name,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

impl Copies {
    /// # Errors
    /// The object cannot be written as JSON.
    pub fn new<K: ToJson>(client: &Client, api: &Api<K>, object: &K) -> Result<Self, kube::Error> {
        let body = object.to_json().map_err(kube::Error::SerdeError)?.into();
        Ok(Self { client: client.clone(), path: api.resource_url().to_owned(), body })
    }

    /// Creates one more; returns its name.
    ///
    /// # Errors
    /// Those of any request.
    pub async fn create(&self) -> Result<String, kube::Error> {
        let request = Request::new(self.path.clone())
            .create(&PostParams::default(), self.body.to_vec())
            .map_err(kube::Error::BuildRequest)?;
        let made: Named = self.client.request(request).await?;
        Ok(made.metadata.name)
    }
}
