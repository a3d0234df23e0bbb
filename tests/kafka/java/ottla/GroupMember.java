package ottla;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * A Java consumer in a group that tells what happens to it, one JSON object a line: {@code assigned}, {@code revoked}
 * and {@code lost} with {@code partitions}, {@code records} with the first and last offset of one partition's part of a
 * poll, {@code committed}, {@code error}, {@code closed}. It obeys the lines {@code commit}, {@code pause},
 * {@code resume} and {@code close} on standard input; the end of input ends it at once, without leaving the group.
 */
public final class GroupMember {
    private GroupMember() {}

    public static void main(String[] args) throws Exception {
        Json.object();
        JsonNode config = Json.parse(args[0]);
        Properties properties = new Properties();
        properties.put("bootstrap.servers", config.get("bootstrap").asText());
        properties.put("group.id", config.get("group").asText());
        properties.put("auto.offset.reset", "earliest");
        String commit = Json.text(config, "commit", "auto");
        properties.put("enable.auto.commit", Boolean.toString(commit.equals("auto")));
        JsonNode extra = config.get("properties");
        if (extra != null) extra.fields().forEachRemaining(e -> properties.put(e.getKey(), e.getValue().asText()));
        List<String> topics = new ArrayList<>();
        config.get("topics").forEach(topic -> topics.add(topic.asText()));
        ConcurrentLinkedQueue<String> commands = new ConcurrentLinkedQueue<>();
        Thread input = new Thread(() -> read(commands), "input");
        input.setDaemon(true);
        input.start();
        try (KafkaConsumer<byte[], byte[]> consumer =
            new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(topics, new Listener());
            boolean paused = false;
            while (true) {
                for (String command = commands.poll(); command != null; command = commands.poll()) {
                    switch (command) {
                        case "commit" -> commit(consumer);
                        case "pause" -> paused = true;
                        case "resume" -> paused = false;
                        case "close" -> {
                            consumer.close(Duration.ofSeconds(20));
                            Json.print(Json.object().put("event", "closed"));
                            return;
                        }
                        default -> Json.print(Json.object().put("event", "error").put("error", "unknown " + command));
                    }
                }
                if (paused) consumer.pause(consumer.assignment());
                else consumer.resume(consumer.paused());
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(100));
                for (TopicPartition key : records.partitions()) {
                    List<ConsumerRecord<byte[], byte[]>> list = records.records(key);
                    Json.print(Json.object().put("event", "records").put("topic", key.topic())
                        .put("partition", key.partition()).put("first", list.get(0).offset())
                        .put("last", list.get(list.size() - 1).offset()).put("count", list.size()));
                }
                if (commit.equals("poll") && !records.isEmpty()) commit(consumer);
            }
        } catch (Throwable e) {
            Json.print(Json.object().put("event", "error").put("error", e.toString()));
            Runtime.getRuntime().halt(1);
        }
    }

    private static void commit(KafkaConsumer<byte[], byte[]> consumer) {
        try {
            consumer.commitSync();
            Json.print(Json.object().put("event", "committed"));
        } catch (org.apache.kafka.clients.consumer.CommitFailedException
            | org.apache.kafka.common.errors.RebalanceInProgressException e) {
            Json.print(Json.object().put("event", "commit_failed").put("error", e.toString()));
        }
    }

    private static void read(ConcurrentLinkedQueue<String> commands) {
        try {
            BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            for (String line = in.readLine(); line != null; line = in.readLine()) commands.add(line.trim());
        } catch (Throwable ignored) {
            // A broken pipe says the same as its end.
        }
        Runtime.getRuntime().halt(137);
    }

    private static final class Listener implements ConsumerRebalanceListener {
        private static void tell(String event, Collection<TopicPartition> partitions) {
            ObjectNode line = Json.object().put("event", event);
            ArrayNode list = line.putArray("partitions");
            for (TopicPartition key : partitions) list.addArray().add(key.topic()).add(key.partition());
            Json.print(line);
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            tell("assigned", partitions);
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            tell("revoked", partitions);
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            tell("lost", partitions);
        }
    }
}
