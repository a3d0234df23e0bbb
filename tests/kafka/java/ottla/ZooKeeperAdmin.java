package ottla;

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.stream.Collectors;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;

/** What only the ZooKeeper of a Kafka before 2.4 can be asked for: another order of a partition's replicas. */
public final class ZooKeeperAdmin {
    private ZooKeeperAdmin() {}

    /** The controller removes each of the two nodes when it has done what they say. */
    public static void moveLeader(String address, String topic, int partition, List<Integer> replicas) throws Exception {
        String tp = "{\"topic\":\"" + topic + "\",\"partition\":" + partition;
        String list = replicas.stream().map(String::valueOf).collect(Collectors.joining(",", "[", "]"));
        ZooKeeper zookeeper = new ZooKeeper(address, 10_000, event -> {});
        try {
            put(zookeeper, "/admin/reassign_partitions",
                "{\"version\":1,\"partitions\":[" + tp + ",\"replicas\":" + list + "}]}");
            put(zookeeper, "/admin/preferred_replica_election", "{\"version\":1,\"partitions\":[" + tp + "}]}");
        } finally {
            zookeeper.close();
        }
    }

    private static void put(ZooKeeper zookeeper, String path, String text) throws Exception {
        long deadline = System.nanoTime() + 30_000_000_000L;
        boolean created = false;
        while (true) {
            try {
                if (!created) {
                    zookeeper.create(path, text.getBytes(StandardCharsets.UTF_8), ZooDefs.Ids.OPEN_ACL_UNSAFE,
                        CreateMode.PERSISTENT);
                    created = true;
                }
                if (zookeeper.exists(path, false) == null) return;
            } catch (KeeperException.NodeExistsException | KeeperException.ConnectionLossException e) {
                // Somebody else's is being worked at, or the session is not there yet.
            }
            if (System.nanoTime() > deadline) throw new IllegalStateException(path + " is still there");
            Thread.sleep(20);
        }
    }
}
