// A receiver in Java 17 or newer, without libraries: SECRET=whsec_… PORT=9000 java Receiver.java

import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Instant;
import java.util.Base64;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public class Receiver {
    static final List<byte[]> KEYS = Stream.of(System.getenv().getOrDefault("SECRET", "").split(" "))
            .filter(secret -> !secret.isEmpty()).map(Receiver::key).toList(); // two while a secret rotates
    static final long TOLERANCE_S = 300; // older requests may have been recorded and sent again by somebody
    static final Set<String> SEEN = ConcurrentHashMap.newKeySet(); // yours is a table: a delivery can come again
    static final Pattern TYPE = Pattern.compile( // yours is a JSON library
            "^\\{\"type\":\"([^\"]+)\",\"timestamp\":\"[^\"]+\"(,\"test\":true)?");

    static byte[] key(String secret) {
        return secret.startsWith("whsec_")
                ? Base64.getDecoder().decode(secret.substring(6))
                : secret.getBytes(StandardCharsets.UTF_8);
    }

    /** Checks a request's raw bytes: signed by one of the secrets, and not long ago. */
    static boolean verified(Headers headers, byte[] body) throws GeneralSecurityException {
        String id = headers.getFirst("webhook-id");
        String timestamp = headers.getFirst("webhook-timestamp");
        String signatures = headers.getFirst("webhook-signature");
        if (id == null || signatures == null || timestamp == null || !timestamp.matches("[0-9]{1,12}")
                || Math.abs(Instant.now().getEpochSecond() - Long.parseLong(timestamp)) > TOLERANCE_S) {
            return false;
        }
        for (byte[] key : KEYS) {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(key, "HmacSHA256"));
            mac.update((id + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8));
            byte[] expected = ("v1," + Base64.getEncoder().encodeToString(mac.doFinal(body))).getBytes();
            for (String given : signatures.split(" ")) {
                if (MessageDigest.isEqual(given.getBytes(), expected)) {
                    return true;
                }
            }
        }
        return false;
    }

    static void receive(HttpExchange exchange) throws IOException {
        byte[] body = exchange.getRequestBody().readAllBytes(); // as they came, never re-serialised
        boolean good;
        try {
            good = exchange.getRequestMethod().equals("POST") && verified(exchange.getRequestHeaders(), body);
        } catch (GeneralSecurityException error) {
            throw new IOException(error);
        }
        byte[] answer = (good ? "OK\n" : "invalid signature\n").getBytes();
        exchange.sendResponseHeaders(good ? 200 : 401, answer.length);
        exchange.getResponseBody().write(answer);
        exchange.close(); // answered; now work
        String id = exchange.getRequestHeaders().getFirst("webhook-id");
        if (good && SEEN.add(id)) {
            String text = new String(body, StandardCharsets.UTF_8);
            Matcher type = TYPE.matcher(text);
            boolean found = type.find();
            String what = found && type.group(2) != null ? "drill" : "event";
            System.out.println(what + " " + (found ? type.group(1) : "unknown") + " " + id);
        }
    }

    public static void main(String[] arguments) throws IOException {
        if (KEYS.isEmpty() || KEYS.stream().anyMatch(key -> key.length == 0)) {
            throw new IllegalStateException("SECRET holds no secret: anybody could sign with an empty key");
        }
        int port = Integer.parseInt(System.getenv().getOrDefault("PORT", "9000"));
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 0);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", Receiver::receive);
        server.start();
        System.out.println("listening on " + server.getAddress().getPort());
    }
}
