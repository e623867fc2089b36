// Send an image to the service, print the objects, and write the drawing. Needs .NET 6 or newer, and no package.
// NOT RUN: no test compiles this file, as Debian has no package of .NET. All other clients run as tests.
//
//   dotnet new console --output client && cp Client.cs client/Program.cs
//   dotnet run --project client http://127.0.0.1:8080 photo.jpg drawing.jpg
//
// The API key, if the service has one, is read from the environment variable API_KEY.
using System;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net.Http;
using System.Text;
using System.Text.Json;

var (url, image, drawing) = (args[0], args[1], args[2]);
using var client = new HttpClient { Timeout = TimeSpan.FromSeconds(60) };
if (Environment.GetEnvironmentVariable("API_KEY") is string key)
{
    client.DefaultRequestHeaders.Add("X-API-Key", key);
}

var request = JsonSerializer.Serialize(
    new { image = Convert.ToBase64String(await File.ReadAllBytesAsync(image)), visualize = true });
using var response = await client.PostAsync(
    $"{url}/instance-segmentation", new StringContent(request, Encoding.UTF8, "application/json"));
using var document = JsonDocument.Parse(await response.Content.ReadAsStringAsync());
var reply = document.RootElement;
if (reply.GetProperty("errorCode").GetInt32() != 0)
{
    Console.Error.WriteLine($"{reply.GetProperty("errorCode")}: {reply.GetProperty("errorMsg")}");
    return 1;
}

Console.OutputEncoding = Encoding.UTF8;
var result = reply.GetProperty("result");
foreach (var one in result.GetProperty("instances").EnumerateArray())
{
    var box = one.GetProperty("bbox").EnumerateArray()
        .Select(edge => edge.GetDouble().ToString("F1", CultureInfo.InvariantCulture));
    var score = one.GetProperty("score").GetDouble().ToString("F3", CultureInfo.InvariantCulture);
    Console.WriteLine($"{one.GetProperty("categoryName").GetString()}\t{score}\t{string.Join(" ", box)}");
}
await File.WriteAllBytesAsync(drawing, result.GetProperty("image").GetBytesFromBase64());
return 0;
