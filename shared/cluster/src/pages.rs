//! Lists in pages: no answer of the API server is ever larger than a page.

use std::fmt::Debug;

use kube::Api;
use kube::api::ListParams;
use serde::de::DeserializeOwned;

use crate::error::{ClusterError, failed};

/// Returns every object that `params` select, page by page. `object` names the list in errors.
pub(crate) async fn all<K>(
    api: &Api<K>,
    call: &'static str,
    object: &str,
    params: ListParams,
    page_size: u32,
) -> Result<Vec<K>, ClusterError>
where
    K: Clone + DeserializeOwned + Debug,
{
    some(api, call, object, params.limit(page_size), |_| true).await
}

/// Returns the objects that `wanted` selects. Holds one page in memory at a time: a cluster may have
/// thousands of large nodes.
pub(crate) async fn select<K>(
    api: &Api<K>,
    call: &'static str,
    params: ListParams,
    page_size: u32,
    wanted: impl Fn(&K) -> bool,
) -> Result<Vec<K>, ClusterError>
where
    K: Clone + DeserializeOwned + Debug,
{
    some(api, call, "", params.limit(page_size), wanted).await
}

async fn some<K>(
    api: &Api<K>,
    call: &'static str,
    object: &str,
    mut params: ListParams,
    wanted: impl Fn(&K) -> bool,
) -> Result<Vec<K>, ClusterError>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut items = Vec::new();
    loop {
        let page = api.list(&params).await.map_err(failed(call, object))?;
        items.extend(page.items.into_iter().filter(&wanted));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(items),
        }
    }
}
