package ottla;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Produces records by formula with Kafka's own producer and says where they went. */
final class Produce {
    private Produce() {}

    static void run(String bootstrap, JsonNode spec, ObjectNode answer) throws Exception {
        Records records = new Records(spec);
        String topic = spec.get("topic").asText();
        String transaction = Json.text(spec, "transactional_id", null);
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("client.id", "ottla-produce");
        properties.put("acks", "all");
        properties.put("enable.idempotence", "true");
        properties.put("compression.type", Json.text(spec, "codec", "none"));
        properties.put("batch.size", Long.toString(Json.number(spec, "batch_size", 16384)));
        properties.put("linger.ms", Long.toString(Json.number(spec, "linger_ms", 5)));
        properties.put("max.request.size", "33554432");
        properties.put("buffer.memory", "67108864");
        if (transaction != null) properties.put("transactional.id", transaction);
        int partitions = records.partition >= 0 ? records.partition + 1 : records.partitions;
        long[] first = new long[partitions];
        long[] last = new long[partitions];
        long[] counts = new long[partitions];
        Arrays.fill(first, -1);
        AtomicReference<Exception> failure = new AtomicReference<>();
        try (KafkaProducer<byte[], byte[]> producer =
            new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
            if (transaction != null) {
                producer.initTransactions();
                producer.beginTransaction();
            }
            for (long i = records.first; i < records.first + records.count && failure.get() == null; i++) {
                // Callbacks run on one thread, in order within a partition.
                producer.send(records.record(topic, i), (metadata, e) -> {
                    if (e != null) {
                        failure.compareAndSet(null, e);
                        return;
                    }
                    int p = metadata.partition();
                    if (first[p] < 0) first[p] = metadata.offset();
                    last[p] = metadata.offset();
                    counts[p]++;
                });
            }
            producer.flush();
            if (failure.get() != null) throw failure.get();
            if (transaction != null) {
                if (Json.flag(spec, "abort")) producer.abortTransaction();
                else producer.commitTransaction();
            }
        }
        if (transaction != null) awaitMarkers(bootstrap, topic, last, counts);
        ArrayNode result = answer.putArray("partitions");
        for (int p = 0; p < partitions; p++) {
            if (counts[p] == 0) continue;
            result.addObject().put("partition", p).put("first", first[p]).put("last", last[p]).put("count", counts[p]);
        }
    }

    /**
     * The end of a transaction is answered before its markers are written. They are there when the last stable offset
     * has passed the records.
     */
    private static void awaitMarkers(String bootstrap, String topic, long[] last, long[] counts) throws Exception {
        Map<TopicPartition, OffsetSpec> request = new HashMap<>();
        for (int p = 0; p < last.length; p++) {
            if (counts[p] > 0) request.put(new TopicPartition(topic, p), OffsetSpec.latest());
        }
        ListOffsetsOptions options = new ListOffsetsOptions(IsolationLevel.READ_COMMITTED);
        long deadline = System.nanoTime() + 30_000_000_000L;
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            while (true) {
                var stable = admin.listOffsets(request, options).all().get();
                if (stable.entrySet().stream().allMatch(e -> e.getValue().offset() > last[e.getKey().partition()])) return;
                if (System.nanoTime() > deadline) throw new IllegalStateException("no transaction markers: " + stable);
                Thread.sleep(10);
            }
        }
    }
}
