//! Which of Kafka's requests are answered, and by what.

use std::io::ErrorKind;
use std::time::{Duration, UNIX_EPOCH};

use headroom_proto::Clock;
use rama::layer::{MapErrLayer, MapStateLayer};
use rama::{Context, Layer, Service};
use tansu_broker::Error;
use tansu_broker::coordinator::group::administrator::Controller;
use tansu_broker::service::{auth, coordinator, storage as routes};
use tansu_sans_io::{ApiKey, FetchRequest, ProduceRequest};
use tansu_service::{
    BytesFrameLayer, FrameRequestLayer, FrameRouteBuilder, FrameRouteService, TcpBytesLayer, TcpContext,
    TcpContextLayer,
};
use tansu_storage::{Storage, StorageContainer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::arrivals::{Arrivals, Fetch, Produce};

/// How often what is beyond its topic's retention is removed.
const UPKEEP: Duration = Duration::from_mins(10);

/// Serves connections until it is dropped.
pub(super) async fn serve(listener: TcpListener, cluster: &str, storage: StorageContainer) -> Result<(), Error> {
    let groups = Controller::with_storage(storage.clone())?;
    let arrivals = Arrivals::default();
    let mut upkeep = tokio::time::interval(UPKEEP);
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                let connection = connection(cluster, groups.clone(), storage.clone(), &arrivals, stream)?;
                tasks.spawn(connection);
            }
            _ = upkeep.tick() => {
                let storage = storage.clone();
                tasks.spawn(async move {
                    let now_us = u64::try_from(Clock::Wall.now().micros()).unwrap_or(0);
                    if let Err(error) = storage.maintain(UNIX_EPOCH + Duration::from_micros(now_us)).await {
                        tracing::debug!(%error, "upkeep of the embedded broker");
                    }
                });
            }
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
}

/// One client, until it leaves.
fn connection(
    cluster: &str,
    groups: Controller<StorageContainer>,
    storage: StorageContainer,
    arrivals: &Arrivals,
    stream: TcpStream,
) -> Result<impl Future<Output = ()> + use<>, Error> {
    let builder = of_storage(FrameRouteService::<(), Error>::builder(), &storage)?;
    let builder = with_arrivals(builder, &storage, arrivals)?;
    let builder = coordinator::services(builder, groups)?;
    let route = auth::services(builder)?.build()?;
    let layers = (
        TcpContextLayer::new(TcpContext::default().cluster_id(Some(cluster.to_owned()))),
        TcpBytesLayer::default(),
        BytesFrameLayer::default(),
    );
    let service = layers.into_layer(route);
    Ok(async move {
        match service.serve(Context::default(), stream).await {
            Ok(_) => {}
            Err(Error::Io(error)) if has_left(error.kind()) => {}
            Err(error) => tracing::warn!(%error, "a client of the embedded broker"),
        }
    })
}

fn has_left(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// Those that tansu answers well. Without the removal of topics, which removes them all, and without transactions, which
/// clients find no version for.
fn of_storage(
    builder: FrameRouteBuilder<(), Error>,
    storage: &StorageContainer,
) -> Result<FrameRouteBuilder<(), Error>, Error> {
    [
        routes::consumer_group_describe,
        routes::create_topics,
        routes::delete_groups,
        routes::delete_records,
        routes::describe_cluster,
        routes::describe_configs,
        routes::describe_groups,
        routes::describe_topic_partitions,
        routes::find_coordinator,
        routes::get_telemetry_subscriptions,
        routes::incremental_alter_configs,
        routes::init_producer_id,
        routes::list_groups,
        routes::list_offsets,
        routes::list_partition_reassignments,
        routes::metadata,
    ]
    .iter()
    .try_fold(builder, |builder, route| route(builder, storage.clone()))
}

/// Reads that wait for what is written.
fn with_arrivals(
    builder: FrameRouteBuilder<(), Error>,
    storage: &StorageContainer,
    arrivals: &Arrivals,
) -> Result<FrameRouteBuilder<(), Error>, Error> {
    let (of_fetch, of_produce) = (storage.clone(), storage.clone());
    let fetch =
        (MapErrLayer::new(Error::from), MapStateLayer::new(|()| of_fetch), FrameRequestLayer::<FetchRequest>::new());
    let produce = (
        MapErrLayer::new(Error::from),
        MapStateLayer::new(|()| of_produce),
        FrameRequestLayer::<ProduceRequest>::new(),
    );
    let builder = builder.with_route(FetchRequest::KEY, fetch.into_layer(Fetch(arrivals.clone())).boxed())?;
    Ok(builder.with_route(ProduceRequest::KEY, produce.into_layer(Produce(arrivals.clone())).boxed())?)
}
