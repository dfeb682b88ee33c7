//! Temporary measurements.
use headroom_ingest_broker::{Broker, BrokerConfig, Record, Start};
use headroom_proto::topics::Topic;
use std::time::Duration;
use tokio::time::Instant;

fn cpu_ms() -> u64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect();
    (f[11].parse::<u64>().unwrap() + f[12].parse::<u64>().unwrap()) * 10
}
fn rss_mb() -> u64 {
    let s = std::fs::read_to_string("/proc/self/statm").unwrap();
    s.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096 / 1_000_000
}

#[tokio::test(flavor = "multi_thread")]
async fn measure() {
    let Ok(what) = std::env::var("MEASURE") else { return };
    let mut properties = std::collections::BTreeMap::new();
    if let Ok(w) = std::env::var("FETCH_WAIT") {
        properties.insert("x".to_owned(), w);
        properties.clear();
    }
    let config = BrokerConfig { properties, ..BrokerConfig::default() };
    let folder = tempfile::tempdir().unwrap();
    let mut embedded = None;
    let servers = match std::env::var("SERVERS") {
        Ok(s) => s,
        Err(_) => {
            let e = headroom_ingest_broker::embedded::Embedded::start("127.0.0.1:0", folder.path()).await.unwrap();
            let s = e.bootstrap_servers().to_owned();
            embedded = Some(e);
            s
        }
    };
    let broker = Broker::new(&servers, &config);
    let t = Instant::now();
    broker.ensure_topics().await.unwrap();
    println!("ensure_topics {:?}", t.elapsed());
    let t = Instant::now();
    broker.ends(Topic::Metrics).await.unwrap();
    println!("ends first {:?}", t.elapsed());
    let t = Instant::now();
    for _ in 0..20 {
        broker.ends(Topic::Metrics).await.unwrap();
    }
    println!("ends each {:?}", t.elapsed() / 20);
    if what.contains("latency") {
        let consumer = broker.consumer("m").unwrap();
        consumer.assign_all(&[Topic::Windows], Start::Latest).await.unwrap();
        let producer = broker.producer().unwrap();
        producer.send_all(vec![Record::new(Topic::Windows, "warm").key("a")]).await.unwrap();
        consumer.poll(10, Duration::from_millis(1500)).await.unwrap();
        let (mut lat, mut ack) = (vec![], vec![]);
        for i in 0..100 {
            let t = Instant::now();
            let d = producer.send(Record::new(Topic::Windows, format!("{i}")).key("a")).await.unwrap();
            let ackd = tokio::spawn(async move {
                d.await.unwrap();
                Instant::now()
            });
            while consumer.poll(10, Duration::from_millis(1000)).await.unwrap().is_empty() {}
            lat.push(t.elapsed());
            ack.push(ackd.await.unwrap() - t);
            tokio::time::sleep(Duration::from_millis(37)).await;
        }
        lat.sort();
        ack.sort();
        println!(
            "latency p50 {:?} p90 {:?} p99 {:?}; ack p50 {:?} p99 {:?}",
            lat[50], lat[90], lat[98], ack[50], ack[98]
        );
        let t = Instant::now();
        drop(consumer);
        println!("drop consumer {:?}", t.elapsed());
        let t = Instant::now();
        broker.tail(Topic::Windows, 0, 1).await.unwrap();
        broker.tail(Topic::Windows, 1, 1).await.unwrap();
        broker.tail(Topic::Windows, 2, 1).await.unwrap();
        broker.tail(Topic::Windows, 3, 1).await.unwrap();
        println!("4 tails {:?}", t.elapsed());
    }
    if what.contains("idle") {
        let mut tasks = vec![];
        for topics in [
            vec![Topic::Queries, Topic::Metrics],
            vec![Topic::Windows, Topic::Outcomes],
            vec![Topic::Signals],
            vec![Topic::Windows, Topic::Forecasts, Topic::Plans, Topic::Actions, Topic::Outcomes],
            vec![Topic::Windows, Topic::Forecasts, Topic::Plans, Topic::Actions, Topic::Models, Topic::Signals],
            vec![Topic::Forecasts, Topic::Windows],
        ] {
            let consumer = broker.consumer("idle").unwrap();
            consumer.assign_all(&topics, Start::Earliest).await.unwrap();
            tasks.push(tokio::spawn(async move {
                loop {
                    consumer.poll(100, Duration::from_millis(200)).await.unwrap();
                }
            }));
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (c, t) = (cpu_ms(), Instant::now());
        tokio::time::sleep(Duration::from_secs(8)).await;
        println!(
            "idle cpu {:.1} % of one core, 6 consumers",
            (cpu_ms() - c) as f64 / t.elapsed().as_millis() as f64 * 100.0
        );
        let consumer = broker.consumer("m").unwrap();
        consumer.assign_all(&[Topic::Models], Start::Latest).await.unwrap();
        let producer = broker.producer().unwrap();
        producer.send_all(vec![Record::new(Topic::Models, "warm").key("a")]).await.unwrap();
        consumer.poll(10, Duration::from_millis(1500)).await.unwrap();
        let mut lat = vec![];
        for i in 0..60 {
            let t = Instant::now();
            producer.send(Record::new(Topic::Models, format!("{i}")).key("a")).await.unwrap();
            while consumer.poll(10, Duration::from_millis(1000)).await.unwrap().is_empty() {}
            lat.push(t.elapsed());
            tokio::time::sleep(Duration::from_millis(37)).await;
        }
        lat.sort();
        println!("latency beside 6 idle consumers p50 {:?} p90 {:?} p99 {:?}", lat[30], lat[54], lat[58]);
        for t in tasks {
            t.abort();
        }
    }
    if what.contains("rate") {
        for (topic, n, size) in [(Topic::Queries, 10_000_usize, 150_usize), (Topic::Metrics, 300, 60_000)] {
            let producer = broker.producer().unwrap();
            let v = vec![7_u8; size];
            let t = Instant::now();
            let records = (0..n)
                .map(|i| Record::new(topic, v.clone()).key(format!("k{i}")).header("headroom-seq", i.to_string()))
                .collect();
            producer.send_all(records).await.unwrap();
            let s = t.elapsed().as_secs_f64();
            println!(
                "produce {n} x {size} B: {:.0}/s {:.1} MB/s, rss {} MB",
                n as f64 / s,
                (n * size) as f64 / s / 1e6,
                rss_mb()
            );
            let consumer = broker.consumer("r").unwrap();
            consumer.assign_all(&[topic], Start::Earliest).await.unwrap();
            let (t, mut got, mut first) = (Instant::now(), 0, None);
            while got < n {
                let r = consumer.poll(1000, Duration::from_millis(1000)).await.unwrap();
                if first.is_none() && !r.is_empty() {
                    first = Some(t.elapsed())
                }
                got += r.len();
                assert!(t.elapsed().as_secs() < 240, "{got}");
            }
            let s = t.elapsed().as_secs_f64();
            println!(
                "consume {n} x {size} B: {:.0}/s {:.1} MB/s, first after {first:?}, rss {} MB",
                n as f64 / s,
                (n * size) as f64 / s / 1e6,
                rss_mb()
            );
        }
    }
    if let Some(e) = embedded {
        let consumer = broker.consumer("dead").unwrap();
        consumer.assign_all(&[Topic::Windows], Start::Latest).await.unwrap();
        consumer.poll(10, Duration::from_millis(300)).await.unwrap();
        consumer.commit(&[(Topic::Windows, 0, 0)]).unwrap();
        let t = Instant::now();
        e.stop().await;
        println!("stop {:?}", t.elapsed());
        let t = Instant::now();
        drop(consumer);
        println!("drop consumer of a dead broker {:?}", t.elapsed());
    }
}
