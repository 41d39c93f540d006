import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.function.UnaryOperator;
import java.util.regex.Pattern;

/** Java's HttpClient as it comes: it offers HTTP/2 with every request. */
class Client {
    static final String BASKET = "{\"lines\":[{\"item\":\"phone\",\"quantity\":1}]}";
    static final HttpClient CLIENT = HttpClient.newHttpClient();
    static String host;

    static String field(String name, String text) {
        var found = Pattern.compile("\"" + name + "\":\"([^\"]*)\"").matcher(text);
        return found.find() ? found.group(1) : "";
    }

    static String ask(
            String name, String method, String path, BodyPublisher body, String show, UnaryOperator<HttpRequest.Builder> more)
            throws Exception {
        var request = HttpRequest.newBuilder(URI.create("http://" + host + path)).method(method, body);
        var answer = CLIENT.send(more.apply(request).build(), BodyHandlers.ofString());
        var shown = show.equals("length") ? "" + answer.body().length() : field(show, answer.body());
        System.out.println(name + " " + answer.statusCode() + " " + shown);
        return answer.body();
    }

    public static void main(String[] args) throws Exception {
        host = args[0];
        UnaryOperator<HttpRequest.Builder> plain = request -> request;
        var none = BodyPublishers.noBody();
        var sale = ask("sale", "GET", "/api/v1/sales/launch", none, "state", plain);
        ask("head", "HEAD", "/api/v1/sales/launch", none, "length", plain);
        ask("nothing", "GET", "/nothing", none, "", plain);
        var passed = ask("pass", "POST", "/api/v1/sales/launch/passes", none, "",
                request -> request.header("Authorization", "Bearer " + args[1]));
        UnaryOperator<HttpRequest.Builder> shopper = request -> request.headers(
                "Floodgate-Pass", field("pass", passed), "Idempotency-Key", "java", "Content-Type", "application/json");
        var url = field("attempts_url", sale);
        var basket = BodyPublishers.ofString(BASKET);
        ask("buy", "POST", url, basket, "outcome", shopper);
        ask("again", "POST", url, basket, "outcome", shopper);
        ask("expect", "POST", url, basket, "outcome", request -> shopper.apply(request).expectContinue(true));
        // Of a stream it does not know the length.
        var stream = BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(BASKET.getBytes()));
        ask("chunked", "POST", url, stream, "outcome", shopper);
        ask("after", "GET", "/api/v1/sales/launch", none, "", plain);
    }
}
