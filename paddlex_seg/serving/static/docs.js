// Shows /openapi.json: paths with their parameters, bodies and replies. Without a library, because all of
// those load from other servers or weigh a megabyte.

const METHODS = ["get", "post", "put", "delete"];

function element(name, text, ...children) {
  const node = document.createElement(name);
  if (text) node.textContent = text;
  node.append(...children);
  return node;
}

function schemaBlock(title, schema) {
  const code = element("pre", JSON.stringify(schema, null, 2));
  code.tabIndex = 0; // so that the keyboard can scroll it
  return element("details", "", element("summary", title), code);
}

function parameterTable(parameters) {
  const head = element("tr", "", ...["name", "where", "values"].map((text) => element("th", text)));
  const rows = parameters.map((one) =>
    element(
      "tr",
      "",
      element("td", one.name),
      element("td", one.in),
      element("td", one.schema.enum ? one.schema.enum.join(", ") : one.schema.description || one.schema.type),
    ),
  );
  return element("table", "", element("thead", "", head), element("tbody", "", ...rows));
}

function operation(path, method, about) {
  const section = element("section", "", element("h2", `${method.toUpperCase()} ${path}`));
  if (about.description) section.append(element("p", about.description));
  if (about.parameters?.length) section.append(parameterTable(about.parameters));
  for (const [type, content] of Object.entries(about.requestBody?.content ?? {})) {
    section.append(schemaBlock(`Body as ${type}`, content.schema));
  }
  for (const [status, reply] of Object.entries(about.responses)) {
    const schema = Object.values(reply.content ?? {})[0]?.schema ?? {};
    section.append(schemaBlock(`${status}: ${reply.description}`, schema));
  }
  return section;
}

async function show() {
  const status = document.getElementById("status");
  try {
    const reply = await fetch("/openapi.json");
    if (!reply.ok) throw new Error(`the service answered with ${reply.status}`);
    const document_ = await reply.json();
    document.getElementById("title").textContent = `API of ${document_.info.title}`;
    document.title = `API of ${document_.info.title}`;
    for (const [path, operations] of Object.entries(document_.paths)) {
      for (const method of METHODS.filter((one) => operations[one])) {
        document.getElementById("paths").append(operation(path, method, operations[method]));
      }
    }
    status.hidden = true;
  } catch (error) {
    status.textContent = `The description cannot be shown: ${error.message}.`;
  }
}

show();
