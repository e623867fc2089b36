// Send an image to the service, print the objects, and write the drawing.
//
//   apt install g++ pkg-config libcpp-httplib-dev nlohmann-json3-dev     (Debian; both libraries are MIT)
//   g++ -std=c++17 -O1 client.cpp -o client $(pkg-config --cflags --libs cpp-httplib) -pthread
//   ./client http://127.0.0.1:8080 photo.jpg drawing.jpg
//
// The flags of pkg-config are needed: Debian's library was built with them, and a program without them crashes.
// The API key, if the service has one, is read from the environment variable API_KEY.
#include <httplib.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

const std::string LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::string to_base64(const std::string& bytes) {
    std::string text;
    unsigned int bits = 0;
    int count = 0;  // of bits that wait
    for (unsigned char byte : bytes) {
        bits = (bits << 8 | byte) & 0xFFFFFF;
        for (count += 8; count >= 6; count -= 6) text += LETTERS[bits >> (count - 6) & 63];
    }
    if (count > 0) text += LETTERS[bits << (6 - count) & 63];
    while (text.size() % 4) text += '=';
    return text;
}

std::string from_base64(const std::string& text) {
    std::string bytes;
    unsigned int bits = 0;
    int count = 0;
    for (char letter : text) {
        const auto value = LETTERS.find(letter);
        if (value == std::string::npos) break;  // the padding
        bits = (bits << 6 | static_cast<unsigned int>(value)) & 0xFFFFFF;
        if ((count += 6) >= 8) bytes += static_cast<char>(bits >> (count -= 8) & 255);
    }
    return bytes;
}

int main(int argc, char** argv) {
    if (argc != 4) {
        std::cerr << "usage: client URL IMAGE DRAWING\n";
        return 2;
    }
    std::ifstream file(argv[2], std::ios::binary);
    if (!file) {
        std::cerr << argv[2] << ": cannot be read\n";
        return 1;
    }
    const std::string image{std::istreambuf_iterator<char>(file), {}};

    httplib::Client client(argv[1]);
    client.set_read_timeout(60);
    httplib::Headers headers;
    if (const char* key = std::getenv("API_KEY")) headers.emplace("X-API-Key", key);
    const nlohmann::json request = {{"image", to_base64(image)}, {"visualize", true}};
    const auto response =
        client.Post("/instance-segmentation", headers, request.dump(), "application/json");
    if (!response) {
        std::cerr << argv[1] << ": " << httplib::to_string(response.error()) << "\n";
        return 1;
    }

    const auto reply = nlohmann::json::parse(response->body);
    if (reply.at("errorCode") != 0) {
        std::cerr << reply.at("errorCode") << ": " << reply.at("errorMsg").get<std::string>() << "\n";
        return 1;
    }
    const auto& result = reply.at("result");
    for (const auto& one : result.at("instances")) {
        const auto box = one.at("bbox").get<std::vector<double>>();
        std::printf("%s\t%.3f\t%.1f %.1f %.1f %.1f\n", one.at("categoryName").get<std::string>().c_str(),
                    one.at("score").get<double>(), box[0], box[1], box[2], box[3]);
    }
    std::ofstream(argv[3], std::ios::binary) << from_base64(result.at("image").get<std::string>());
}
