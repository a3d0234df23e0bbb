package ottla;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.PrintStream;

/** One JSON object a line, both ways. */
final class Json {
    private static final ObjectMapper MAPPER = new ObjectMapper();
    /** The real standard output. Whatever else in the JVM prints goes to standard error. */
    private static final PrintStream OUT = System.out;

    static {
        System.setOut(System.err);
    }

    private Json() {}

    static ObjectNode object() {
        return MAPPER.createObjectNode();
    }

    static ArrayNode array() {
        return MAPPER.createArrayNode();
    }

    static JsonNode parse(String line) throws Exception {
        return MAPPER.readTree(line);
    }

    static synchronized void print(ObjectNode object) {
        OUT.println(object);
        OUT.flush();
    }

    static String text(JsonNode node, String field, String otherwise) {
        JsonNode value = node.get(field);
        return value == null || value.isNull() ? otherwise : value.asText();
    }

    static long number(JsonNode node, String field, long otherwise) {
        JsonNode value = node.get(field);
        return value == null || value.isNull() ? otherwise : value.asLong();
    }

    static boolean flag(JsonNode node, String field) {
        JsonNode value = node.get(field);
        return value != null && value.asBoolean();
    }

    static String hex(byte[] bytes) {
        if (bytes == null) return null;
        StringBuilder text = new StringBuilder(bytes.length * 2);
        for (byte b : bytes) text.append(Character.forDigit((b >> 4) & 15, 16)).append(Character.forDigit(b & 15, 16));
        return text.toString();
    }
}
