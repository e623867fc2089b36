// Send an image to the service, print the objects, and write the drawing. Needs Java 11 or newer, and no library.
//
//   java Client.java http://127.0.0.1:8080 photo.jpg drawing.jpg
//
// The API key, if the service has one, is read from the environment variable API_KEY.
// The JDK has no JSON reader, so there is a small one below; in a larger program use a library for it.
import java.io.PrintStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

public class Client {
    public static void main(String[] args) throws Exception {
        String image = Base64.getEncoder().encodeToString(Files.readAllBytes(Path.of(args[1])));
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(args[0] + "/instance-segmentation"))
                .timeout(Duration.ofSeconds(60))
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString("{\"visualize\": true, \"image\": \"" + image + "\"}"));
        String key = System.getenv("API_KEY");
        if (key != null) {
            request.header("X-API-Key", key);
        }
        HttpResponse<String> response =
                HttpClient.newHttpClient().send(request.build(), HttpResponse.BodyHandlers.ofString());
        Map<?, ?> reply = (Map<?, ?>) new Json(response.body()).value();
        int code = ((Double) reply.get("errorCode")).intValue();
        if (code != 0) {
            System.err.println(code + ": " + reply.get("errorMsg"));
            System.exit(1);
        }
        Map<?, ?> result = (Map<?, ?>) reply.get("result");
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        for (Object item : (List<?>) result.get("instances")) {
            Map<?, ?> one = (Map<?, ?>) item;
            Object[] box = ((List<?>) one.get("bbox")).toArray();
            out.print(one.get("categoryName"));
            out.printf(Locale.ROOT, "\t%.3f", one.get("score"));
            out.printf(Locale.ROOT, "\t%.1f %.1f %.1f %.1f\n", box);
        }
        Files.write(Path.of(args[2]), Base64.getDecoder().decode((String) result.get("image")));
    }

    /** Reads one JSON text into Map, List, String, Double, Boolean and null. */
    private static final class Json {
        private final String text;
        private int at = 0;

        Json(String text) {
            this.text = text;
        }

        Object value() {
            char first = next();
            if (first == '{') {
                Map<String, Object> map = new LinkedHashMap<>();
                while (next() != '}') {
                    skip('{', ',');
                    if (next() == '}') {
                        break;
                    }
                    String key = string();
                    next();
                    skip(':');
                    map.put(key, value());
                }
                at++;
                return map;
            }
            if (first == '[') {
                List<Object> list = new ArrayList<>();
                while (next() != ']') {
                    skip('[', ',');
                    if (next() == ']') {
                        break;
                    }
                    list.add(value());
                }
                at++;
                return list;
            }
            if (first == '"') {
                return string();
            }
            int start = at;
            while (at < text.length() && ",]} \n\r\t".indexOf(text.charAt(at)) < 0) {
                at++;
            }
            String word = text.substring(start, at);
            switch (word) {
                case "true":
                    return true;
                case "false":
                    return false;
                case "null":
                    return null;
                default:
                    return Double.valueOf(word);
            }
        }

        private String string() {
            StringBuilder out = new StringBuilder();
            for (at++; text.charAt(at) != '"'; at++) {
                char c = text.charAt(at);
                if (c != '\\') {
                    out.append(c);
                    continue;
                }
                c = text.charAt(++at);
                if (c == 'u') {
                    out.append((char) Integer.parseInt(text.substring(at + 1, at + 5), 16));
                    at += 4;
                } else {
                    int known = "bfnrt".indexOf(c);
                    out.append(known < 0 ? c : "\b\f\n\r\t".charAt(known));
                }
            }
            at++;
            return out.toString();
        }

        /** The next character that is no space. */
        private char next() {
            while (Character.isWhitespace(text.charAt(at))) {
                at++;
            }
            return text.charAt(at);
        }

        private void skip(char... wanted) {
            for (char c : wanted) {
                if (text.charAt(at) == c) {
                    at++;
                    return;
                }
            }
            throw new IllegalArgumentException("not JSON at character " + at);
        }
    }
}
