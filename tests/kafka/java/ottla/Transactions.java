package ottla;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Transactions that stay open from command to command, and what Java's own consumer sees of them. */
final class Transactions {
    private final String bootstrap;
    private final Admin admin;
    private final Map<String, Open> producers = new HashMap<>();

    private static final class Open {
        KafkaProducer<byte[], byte[]> producer;
        /** Where it has written in the transaction that is open; null: none is. */
        Map<TopicPartition, OffsetSpec> written;
    }

    Transactions(String bootstrap, Admin admin) {
        this.bootstrap = bootstrap;
        this.admin = admin;
    }

    /** Writes values; without an id outside of any transaction, else in the one that is open, or a new one. */
    void send(JsonNode command) throws Exception {
        String id = Json.text(command, "id", null);
        Open open = producers.computeIfAbsent(id == null ? "" : id, key -> start(id));
        if (id != null && open.written == null) {
            open.producer.beginTransaction();
            open.written = new HashMap<>();
        }
        TopicPartition to = new TopicPartition(command.get("topic").asText(), command.get("partition").asInt());
        for (JsonNode value : command.get("values")) {
            byte[] bytes = value.asText().getBytes(StandardCharsets.UTF_8);
            open.producer.send(new ProducerRecord<>(to.topic(), to.partition(), null, bytes));
        }
        open.producer.flush();
        if (id != null) open.written.put(to, OffsetSpec.latest());
    }

    private Open start(String id) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("acks", "all");
        properties.put("compression.type", "lz4");
        if (id != null) properties.put("transactional.id", id);
        Open open = new Open();
        open.producer = new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
        if (id != null) open.producer.initTransactions();
        return open;
    }

    /** Ends the open transaction, and waits for its markers: the answer comes before they are written. */
    void end(JsonNode command) throws Exception {
        Open open = producers.get(command.get("id").asText());
        var before = admin.listOffsets(open.written).all().get();
        if (Json.flag(command, "abort")) open.producer.abortTransaction();
        else open.producer.commitTransaction();
        long deadline = System.nanoTime() + 30_000_000_000L;
        while (true) {
            var now = admin.listOffsets(open.written).all().get();
            if (now.entrySet().stream().allMatch(e -> e.getValue().offset() > before.get(e.getKey()).offset())) break;
            if (System.nanoTime() > deadline) throw new IllegalStateException("no transaction markers: " + now);
            Thread.sleep(5);
        }
        open.written = null;
    }

    /** What a consumer of that isolation level sees in a topic from its beginning to its end. */
    void read(JsonNode command, ObjectNode answer) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("isolation.level", command.get("isolation").asText());
        properties.put("auto.offset.reset", "earliest");
        try (KafkaConsumer<byte[], byte[]> consumer =
            new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> all = new ArrayList<>();
            consumer.partitionsFor(command.get("topic").asText())
                .forEach(info -> all.add(new TopicPartition(info.topic(), info.partition())));
            consumer.assign(all);
            Map<TopicPartition, Long> ends = consumer.endOffsets(all);
            Map<TopicPartition, ArrayNode> values = new HashMap<>();
            ArrayNode partitions = answer.putArray("partitions");
            for (TopicPartition each : all) {
                ObjectNode node = partitions.addObject().put("partition", each.partition()).put("end", ends.get(each));
                values.put(each, node.putArray("values"));
            }
            long deadline = System.nanoTime() + 60_000_000_000L;
            while (all.stream().anyMatch(each -> consumer.position(each) < ends.get(each))) {
                if (System.nanoTime() > deadline) throw new IllegalStateException("Java's consumer gets no further");
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    ArrayNode into = values.get(new TopicPartition(record.topic(), record.partition()));
                    into.addArray().add(record.offset()).add(new String(record.value(), StandardCharsets.UTF_8));
                }
            }
        }
    }
}
