// The same windows in Kafka Streams: its DSL, one stream thread, state in memory, no changelog.

import com.datadoghq.sketch.ddsketch.DDSketch;
import com.datadoghq.sketch.ddsketch.DDSketchProtoBinding;
import com.datadoghq.sketch.ddsketch.store.UnboundedSizeDenseStore;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.arrow.compression.CommonsCompressionFactory;
import org.apache.arrow.flatbuf.Message;
import org.apache.arrow.memory.ArrowBuf;
import org.apache.arrow.memory.RootAllocator;
import org.apache.arrow.vector.BigIntVector;
import org.apache.arrow.vector.Float8Vector;
import org.apache.arrow.vector.TimeStampMicroTZVector;
import org.apache.arrow.vector.VarCharVector;
import org.apache.arrow.vector.VectorLoader;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.ipc.message.ArrowRecordBatch;
import org.apache.arrow.vector.ipc.message.MessageSerializer;
import org.apache.arrow.vector.types.FloatingPointPrecision;
import org.apache.arrow.vector.types.pojo.ArrowType;
import org.apache.arrow.vector.types.pojo.Field;
import org.apache.arrow.vector.types.pojo.FieldType;
import org.apache.arrow.vector.types.pojo.Schema;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.Stores;

public class KafkaStreamsPeer {
    static final RootAllocator ALLOCATOR = new RootAllocator();

    /** One event: when, how long, how many rows, how many queries it stands for. */
    record Event(long timeMs, double durationMs, long rows, long count) {}

    /** What is kept of a window. */
    static final class Totals {
        long queries;
        double sumMs;
        double slowestMs = Double.NEGATIVE_INFINITY;
        long rows;
        DDSketch sketch = new DDSketch(0.01);

        Totals add(Event event) {
            queries += event.count;
            sumMs += event.durationMs;
            slowestMs = Math.max(slowestMs, event.durationMs);
            rows += event.rows;
            sketch.accept(event.durationMs);
            return this;
        }
    }

    static Field field(String name, ArrowType type) {
        return new Field(name, FieldType.nullable(type), null);
    }

    static Schema schema() {
        ArrowType text = ArrowType.Utf8.INSTANCE;
        ArrowType whole = new ArrowType.Int(64, true);
        return new Schema(List.of(
            field("event_time", new ArrowType.Timestamp(org.apache.arrow.vector.types.TimeUnit.MICROSECOND, "UTC")),
            field("workload", text), field("db_system_name", text), field("db_namespace", text),
            field("db_operation_name", text), field("db_query_summary", text), field("fingerprint", text),
            field("duration_ms", new ArrowType.FloatingPoint(FloatingPointPrecision.DOUBLE)),
            field("rows", whole), field("bytes", whole), field("error", ArrowType.Bool.INSTANCE), field("count", whole)));
    }

    static List<KeyValue<String, Event>> events(byte[] value) {
        ByteBuffer bytes = ByteBuffer.wrap(value).order(ByteOrder.LITTLE_ENDIAN);
        int length = bytes.getInt(0);
        ByteBuffer header = bytes.slice(8, length).order(ByteOrder.LITTLE_ENDIAN);
        int bodyAt = (8 + length + 63) / 64 * 64;
        List<KeyValue<String, Event>> found = new ArrayList<>();
        try (VectorSchemaRoot root = VectorSchemaRoot.create(schema(), ALLOCATOR)) {
            // Its reference goes to the batch.
            ArrowBuf body = ALLOCATOR.buffer(Math.max(1, value.length - bodyAt));
            body.setBytes(0, value, bodyAt, value.length - bodyAt);
            body.writerIndex(value.length - bodyAt);
            try (ArrowRecordBatch batch =
                    MessageSerializer.deserializeRecordBatch(Message.getRootAsMessage(header), body)) {
                new VectorLoader(root, CommonsCompressionFactory.INSTANCE).load(batch);
            }
            TimeStampMicroTZVector times = (TimeStampMicroTZVector) root.getVector("event_time");
            VarCharVector workloads = (VarCharVector) root.getVector("workload");
            VarCharVector fingerprints = (VarCharVector) root.getVector("fingerprint");
            Float8Vector durations = (Float8Vector) root.getVector("duration_ms");
            BigIntVector rows = (BigIntVector) root.getVector("rows");
            BigIntVector counts = (BigIntVector) root.getVector("count");
            for (int row = 0; row < root.getRowCount(); row++) {
                String key = new String(workloads.get(row), StandardCharsets.UTF_8) + "/"
                    + new String(fingerprints.get(row), StandardCharsets.UTF_8);
                found.add(KeyValue.pair(key,
                    new Event(times.get(row) / 1000, durations.get(row), rows.get(row), counts.get(row))));
            }
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
        return found;
    }

    static Serde<Event> eventSerde() {
        return Serdes.serdeFrom(
            (topic, event) -> event == null ? null : ByteBuffer.allocate(32).putLong(event.timeMs)
                .putDouble(event.durationMs).putLong(event.rows).putLong(event.count).array(),
            (topic, bytes) -> {
                if (bytes == null) return null;
                ByteBuffer buffer = ByteBuffer.wrap(bytes);
                return new Event(buffer.getLong(), buffer.getDouble(), buffer.getLong(), buffer.getLong());
            });
    }

    static Serde<Totals> totalsSerde() {
        return Serdes.serdeFrom(
            (topic, totals) -> {
                if (totals == null) return null;
                byte[] sketch = DDSketchProtoBinding.toProto(totals.sketch).toByteArray();
                return ByteBuffer.allocate(32 + sketch.length).putLong(totals.queries).putDouble(totals.sumMs)
                    .putDouble(totals.slowestMs).putLong(totals.rows).put(sketch).array();
            },
            (topic, bytes) -> {
                if (bytes == null) return null;
                ByteBuffer buffer = ByteBuffer.wrap(bytes);
                Totals totals = new Totals();
                totals.queries = buffer.getLong();
                totals.sumMs = buffer.getDouble();
                totals.slowestMs = buffer.getDouble();
                totals.rows = buffer.getLong();
                try {
                    totals.sketch = DDSketchProtoBinding.fromProto(UnboundedSizeDenseStore::new,
                        com.datadoghq.sketch.ddsketch.proto.DDSketch.parseFrom(buffer));
                } catch (Exception error) {
                    throw new IllegalStateException(error);
                }
                return totals;
            });
    }

    public static void main(String[] arguments) throws Exception {
        long expected = Long.parseLong(System.getenv("HEADROOM_BENCH_EVENTS"));
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "headroom-bench-" + ProcessHandle.current().pid());
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, System.getenv("HEADROOM_BENCH_SERVERS"));
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, "1");
        settings.put(StreamsConfig.STATE_DIR_CONFIG, Files.createTempDirectory("headroom-bench").toString());
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, String.valueOf(1L << 30));
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, "1000");
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");

        AtomicLong windows = new AtomicLong();
        AtomicLong counted = new AtomicLong();
        CountDownLatch done = new CountDownLatch(1);
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(System.getenv("HEADROOM_BENCH_TOPIC"),
                Consumed.with(Serdes.Bytes(), Serdes.ByteArray()))
            .process(() -> new Unpack())
            .repartition(org.apache.kafka.streams.kstream.Repartitioned
                .with(Serdes.String(), eventSerde()).withNumberOfPartitions(1))
            .groupByKey(Grouped.with(Serdes.String(), eventSerde()))
            .windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofSeconds(10), Duration.ofSeconds(10)))
            .aggregate(Totals::new, (key, event, totals) -> totals.add(event),
                Materialized.<String, Totals>as(Stores.inMemoryWindowStore(
                        "windows", Duration.ofSeconds(60), Duration.ofSeconds(10), false))
                    .withKeySerde(Serdes.String()).withValueSerde(totalsSerde()).withLoggingDisabled())
            .suppress(Suppressed.untilWindowCloses(
                Suppressed.BufferConfig.unbounded().withLoggingDisabled()))
            .toStream()
            .foreach((window, totals) -> {
                double[] percentiles = totals.sketch.getValuesAtQuantiles(new double[] {0.5, 0.95, 0.99});
                if (percentiles.length == 3 && totals.queries > 0) {
                    windows.incrementAndGet();
                    if (counted.addAndGet(totals.queries) >= expected) done.countDown();
                }
            });
        long began = System.nanoTime();
        double before = cpuSeconds();
        try (KafkaStreams streams = new KafkaStreams(builder.build(), settings)) {
            streams.setUncaughtExceptionHandler(error -> {
                error.printStackTrace();
                System.exit(1);
                return null;
            });
            streams.start();
            if (!done.await(10, TimeUnit.MINUTES)) {
                System.err.println("only " + counted.get() + " of " + expected + " events in windows after 10 minutes");
                System.exit(1);
            }
            System.out.printf(java.util.Locale.ROOT,
                "{\"seconds\":%.3f,\"cpu_seconds\":%.3f,\"peak_bytes\":%d,\"windows\":%d,\"events\":%d}%n",
                (System.nanoTime() - began) / 1e9, cpuSeconds() - before, peakBytes(), windows.get(), counted.get());
            System.out.flush();
            Runtime.getRuntime().halt(0);
        }
    }

    /** A batch becomes its events, each at its own time. */
    static final class Unpack extends ContextualProcessor<Bytes, byte[], String, Event> {
        private long newestMs;

        @Override
        public void process(Record<Bytes, byte[]> batch) {
            List<KeyValue<String, Event>> events = events(batch.value());
            for (KeyValue<String, Event> event : events) {
                newestMs = Math.max(newestMs, event.value.timeMs);
                context().forward(new Record<>(event.key, event.value, event.value.timeMs));
            }
            if (events.isEmpty()) {
                // The last record promises that no more events come: an event far ahead closes every window.
                long end = newestMs + 3_600_000;
                context().forward(new Record<>("end", new Event(end, 0, 0, 0), end));
            }
        }
    }

    static double cpuSeconds() {
        var system = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        return system.getProcessCpuTime() / 1e9;
    }

    static long peakBytes() throws Exception {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("VmHWM:")) return Long.parseLong(line.replaceAll("[^0-9]", "")) * 1024;
        }
        return 0;
    }
}
