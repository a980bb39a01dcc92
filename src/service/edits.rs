//! Edits of the catalog and its lists, whoever asks. What an edit may do is [`Draft`]'s; here it
//! gets its turn, its thread, its time and its line in the log.

use std::sync::Arc;

use super::audit;
use super::error::{ServiceError, on_a_thread};
use crate::catalog::{
    Answer, Catalog, CatalogStore, Draft, EditError, EditOptions, Edited, ListOptions, Page,
    RequestKey,
};
use crate::clock::Clock;
use crate::decide::invalid::Invalid;
use crate::decide::time::Now;

/// Edits a catalog, and lists what it holds.
#[derive(Clone, Debug)]
pub struct Edits {
    catalog: Arc<CatalogStore>,
    clock: Clock,
}

/// What is asked of a list. See [`ListOptions`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListRequest {
    pub page_size: i32,
    pub page_token: String,
    pub filter: String,
    pub order_by: String,
}

/// How the catalog lists one kind of resource.
pub type List<T> = fn(&Catalog, &ListOptions<'_>) -> Result<Page<T>, Vec<Invalid>>;

impl Edits {
    pub fn new(catalog: Arc<CatalogStore>, clock: Clock) -> Self {
        Self { catalog, clock }
    }

    /// The catalog of this moment.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.snapshot()
    }

    /// Makes an edit, all or nothing: `work` says what to do and what to answer. It waits for those
    /// before it, and a large one takes its time, so it is no work for a thread that serves calls.
    ///
    /// # Errors
    /// Those of `work`; and an edit that could not be kept.
    pub async fn edit<A: Send + 'static>(
        &self,
        options: EditOptions,
        work: impl FnOnce(&mut Draft) -> Result<A, EditError> + Send + 'static,
    ) -> Result<A, ServiceError> {
        self.make(move |catalog, now| catalog.edit(options, now, work)).await
    }

    /// The same for a request that may have a name: a retry gets the first answer, and changes
    /// nothing.
    ///
    /// # Errors
    /// As there, and where another request had the name.
    pub async fn edit_once<A: Answer + Send + 'static>(
        &self,
        request: Option<RequestKey>,
        options: EditOptions,
        work: impl FnOnce(&mut Draft) -> Result<A, EditError> + Send + 'static,
    ) -> Result<A, ServiceError> {
        self.make(move |catalog, now| match &request {
            Some(request) => catalog.edit_once(request, options, now, work),
            None => catalog.edit(options, now, work),
        })
        .await
    }

    async fn make<A: Send + 'static>(
        &self,
        edit: impl FnOnce(&CatalogStore, Now) -> Result<Edited<A>, EditError> + Send + 'static,
    ) -> Result<A, ServiceError> {
        let (catalog, now, caller) = (Arc::clone(&self.catalog), self.clock.now(), audit::caller());
        let made = on_a_thread(move || {
            let Edited { answer, change, .. } = edit(&catalog, now)?;
            if let Some(change) = change {
                audit::edited(&caller, &change);
            }
            Ok::<A, EditError>(answer)
        });
        Ok(made.await??)
    }

    /// A page of a list. A filter may look at every resource.
    ///
    /// # Errors
    /// A page size, token, filter or order that cannot be used.
    pub async fn list<T: Send + Sync + 'static>(
        &self,
        request: ListRequest,
        list: List<T>,
    ) -> Result<Page<T>, ServiceError> {
        let catalog = self.catalog();
        let page = on_a_thread(move || {
            let ListRequest { page_size, page_token, filter, order_by } = &request;
            list(&catalog, &ListOptions { page_size: *page_size, page_token, filter, order_by })
        });
        Ok(page.await??)
    }
}
