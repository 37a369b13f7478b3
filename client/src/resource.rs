//! Requests for the objects of one kind. Only the reading and writing of JSON depends on the kind ([`crate::json`]);
//! what is asked, and how the answer is taken, is compiled once.

use std::fmt::Debug;
use std::marker::PhantomData;

use bytes::Bytes;
use futures::future::BoxFuture;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::core::params::GetParams;
use kube::{Client, Error, Resource, Result};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::json::{FromJson, ToJson};
use crate::request::{self, Built};

/// The objects of a kind, in one namespace or in all. As `kube::Api`, which brings all code of the kind into every crate
/// that uses it; and what is written without a look at the answer (patches, deletions) leaves that unread.
pub struct Api<K> {
    client: Client,
    request: Request,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Api<K> {
    fn clone(&self) -> Self {
        Self::at(self.client.clone(), self.request.url_path.clone())
    }
}

impl<K> Api<K> {
    fn at(client: Client, path: String) -> Self {
        Self { client, request: Request::new(path), kind: PhantomData }
    }

    /// The path of the collection.
    pub fn resource_url(&self) -> &str {
        &self.request.url_path
    }

    pub fn into_client(self) -> Client {
        self.client
    }

    fn send(&self, request: Built) -> BoxFuture<'static, Result<Bytes>> {
        request::bytes(self.client.clone(), request)
    }
}

impl<K: Resource> Api<K> {
    /// The objects of the cluster, or of all namespaces, of a kind that is known at run time.
    pub fn all_with(client: Client, kind: &K::DynamicType) -> Self {
        Self::at(client, K::url_path(kind, None))
    }

    /// The objects of the cluster, or of all namespaces.
    pub fn all(client: Client) -> Self
    where
        K: Resource<DynamicType = ()>,
    {
        Self::all_with(client, &())
    }

    /// The objects of a namespace.
    pub fn namespaced(client: Client, namespace: &str) -> Self
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Self::at(client, K::url_path(&(), Some(namespace)))
    }
}

/// # Errors
/// Of all: the server was not reached, refused, or answered with something else than such an object.
impl<K: FromJson> Api<K> {
    fn read(answer: Result<Bytes>) -> Result<K> {
        let text = answer?;
        let text = std::str::from_utf8(&text).map_err(|error| Error::SerdeError(serde::de::Error::custom(error)))?;
        K::from_json(text).map_err(Error::SerdeError)
    }

    pub async fn get(&self, name: &str) -> Result<K> {
        Self::read(self.send(self.request.get(name, &GetParams::default())).await)
    }

    /// `None` when there is no such object.
    pub async fn get_opt(&self, name: &str) -> Result<Option<K>> {
        match self.get(name).await {
            Err(Error::Api(status)) if status.is_not_found() => Ok(None),
            found => found.map(Some),
        }
    }

    pub async fn list(&self, params: &ListParams) -> Result<Vec<K>> {
        #[derive(serde::Deserialize)]
        struct List<'a> {
            #[serde(borrow)]
            items: Option<Vec<&'a RawValue>>,
        }
        let text = self.send(self.request.list(params)).await?;
        let list: List<'_> = serde_json::from_slice(&text).map_err(Error::SerdeError)?;
        let items = list.items.unwrap_or_default().into_iter();
        items.map(|item| K::from_json(item.get())).collect::<serde_json::Result<_>>().map_err(Error::SerdeError)
    }

    pub async fn create(&self, params: &PostParams, object: &K) -> Result<K>
    where
        K: ToJson,
    {
        let body = object.to_json().map_err(Error::SerdeError)?;
        Self::read(self.send(self.request.create(params, body)).await)
    }

    pub async fn replace(&self, name: &str, params: &PostParams, object: &K) -> Result<K>
    where
        K: ToJson,
    {
        let body = object.to_json().map_err(Error::SerdeError)?;
        Self::read(self.send(self.request.replace(name, params, body)).await)
    }

    pub async fn replace_subresource(&self, which: &str, name: &str, params: &PostParams, object: &K) -> Result<K>
    where
        K: ToJson,
    {
        let body = object.to_json().map_err(Error::SerdeError)?;
        Self::read(self.send(self.request.replace_subresource(which, name, params, body)).await)
    }

    /// As [`Self::patch`]; gives the object as it is then.
    pub async fn patch_and_read<P: Serialize + Debug>(
        &self,
        name: &str,
        params: &PatchParams,
        patch: &Patch<P>,
    ) -> Result<K> {
        Self::read(self.send(self.request.patch(name, params, patch)).await)
    }

    pub async fn replace_status(&self, name: &str, params: &PostParams, object: &K) -> Result<K>
    where
        K: ToJson,
    {
        self.replace_subresource("status", name, params, object).await
    }
}

/// # Errors
/// Of all: the server was not reached, or refused.
impl<K> Api<K> {
    pub async fn patch<P: Serialize + Debug>(&self, name: &str, params: &PatchParams, patch: &Patch<P>) -> Result<()> {
        self.send(self.request.patch(name, params, patch)).await.map(drop)
    }

    pub async fn patch_status<P: Serialize + Debug>(
        &self,
        name: &str,
        params: &PatchParams,
        patch: &Patch<P>,
    ) -> Result<()> {
        self.send(self.request.patch_subresource("status", name, params, patch)).await.map(drop)
    }

    /// Writes an object below another, as the binding of a Pod.
    pub async fn create_subresource<B: Serialize>(
        &self,
        which: &str,
        name: &str,
        params: &PostParams,
        body: &B,
    ) -> Result<()> {
        let body = serde_json::to_vec(body).map_err(Error::SerdeError)?;
        self.send(self.request.create_subresource(which, name, params, body)).await.map(drop)
    }

    pub async fn delete(&self, name: &str, params: &DeleteParams) -> Result<()> {
        self.send(self.request.delete(name, params)).await.map(drop)
    }
}
