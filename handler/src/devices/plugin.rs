//! The plugin of one resource, as the kubelet calls it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use super::generated::device_plugin_server::DevicePlugin;
use super::generated::{
    AllocateRequest, AllocateResponse, DevicePluginOptions, Empty, ListAndWatchResponse,
    PreStartContainerRequest, PreStartContainerResponse, PreferredAllocationRequest,
    PreferredAllocationResponse,
};
use super::resource::{Resource, list};

/// How often it is looked whether what a resource stands for is there. It changes with a kernel
/// module, and the kubelet's own status with it is no quicker.
const LOOK: Duration = Duration::from_secs(10);

/// One resource's plugin.
pub(super) struct Plugin {
    pub(super) resource: Resource,
    /// Told when the kubelet no longer reads the list of devices.
    pub(super) let_go: Arc<Notify>,
}

/// Tells of its end.
struct Reader(Arc<Notify>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tonic::async_trait]
impl DevicePlugin for Plugin {
    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(DevicePluginOptions::default()))
    }

    type ListAndWatchStream = BoxStream<'static, Result<ListAndWatchResponse, Status>>;

    async fn list_and_watch(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let reader = Reader(self.let_go.clone());
        let lists = health(self.resource.witness.clone()).map(move |healthy| {
            let _read_by = &reader;
            Ok(list(healthy))
        });
        Ok(Response::new(lists.boxed()))
    }

    async fn get_preferred_allocation(
        &self,
        _: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        Err(Status::unimplemented("every id is as good as another"))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let containers = request.into_inner().container_requests.len();
        Ok(Response::new(AllocateResponse {
            container_responses: vec![self.resource.allocation.clone(); containers],
        }))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Err(Status::unimplemented(
            "there is nothing to do before a start",
        ))
    }
}

/// Whether the file is there: at once, and then whenever it changes.
fn health(witness: PathBuf) -> BoxStream<'static, bool> {
    let looks = stream::unfold((witness, None), |(witness, last)| async move {
        loop {
            let healthy = witness.exists();
            if last != Some(healthy) {
                return Some((healthy, (witness, Some(healthy))));
            }
            tokio::time::sleep(LOOK).await;
        }
    });
    looks.boxed()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::node::Facts;

    #[tokio::test]
    async fn a_kubelet_that_reads_no_more_is_noticed() {
        let let_go = Arc::new(Notify::new());
        let plugin = Plugin {
            resource: crate::devices::resources(&Facts::default(), Path::new("/dev")).remove(0),
            let_go: let_go.clone(),
        };
        let lists = plugin.list_and_watch(Request::new(Empty {})).await.unwrap();
        let mut lists = lists.into_inner();
        assert_eq!(lists.next().await.unwrap().unwrap().devices.len(), 1000);
        let noticed = let_go.notified();
        tokio::pin!(noticed);
        assert!(!noticed.as_mut().enable());
        drop(lists);
        noticed.await;
    }

    #[tokio::test(start_paused = true)]
    async fn health_is_told_at_once_and_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let witness = dir.path().join("node");
        let mut health = health(witness.clone());
        assert_eq!(health.next().await, Some(false));
        std::fs::write(&witness, "").unwrap();
        assert_eq!(health.next().await, Some(true));
        std::fs::remove_file(&witness).unwrap();
        assert_eq!(health.next().await, Some(false));
        // Nothing changes, so nothing is told, however long one waits.
        let quiet = tokio::time::timeout(100 * LOOK, health.next()).await;
        assert!(quiet.is_err(), "{quiet:?}");
    }
}
