//! Lists in pages: no answer of the API server is ever larger than a page.

use std::fmt::Debug;

use kube::Api;
use kube::api::ListParams;
use serde::de::DeserializeOwned;

use crate::error::{ClusterError, failed};

/// Everything that `params` select, page by page. `object` names the list in errors.
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
    let mut params = params.limit(page_size);
    let mut items = Vec::new();
    loop {
        let page = api.list(&params).await.map_err(failed(call, object))?;
        items.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(items),
        }
    }
}
