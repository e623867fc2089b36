/* The page of the API: what the service says in openapi.json, without scripts of other servers. */

import { Connection } from "./connection.js";
import { element, find } from "./elements.js";
import { Service } from "./service.js";

const service = new Service();

function show({ info, paths }) {
  find("title").textContent = `${info.title}, version ${info.version}`;
  find("operations").replaceChildren(
    ...Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => operationPart(method, path, operation)),
    ),
  );
  find("example").hidden = false;
  find("example").querySelector("pre").textContent = example();
}

function example() {
  const address = new URL("instance-segmentation?visualize=false&threshold=0.5", location.href);
  const key = service.key ? " -H 'X-API-Key: ...'" : "";
  return `curl${key} -H 'Content-Type: image/jpeg' --data-binary @image.jpg \\\n  '${address}'`;
}

function operationPart(method, path, { description, summary, parameters = [], requestBody, responses }) {
  const part = element("details", "", "operation");
  const head = element("summary");
  head.append(
    element("b", method.toUpperCase()),
    " ",
    element("code", path),
    " ",
    element("span", description ?? summary),
  );
  part.append(head);
  part.open = method === "post" && !path.startsWith("/v2");
  if (parameters.length) {
    const fields = parameters.map(({ name, schema, required, ...more }) => ({
      name,
      required,
      type: typeText(schema),
      text: more.description ?? schema.description ?? "",
    }));
    part.append(element("h3", "Parameters"), fieldTable(fields));
  }
  for (const [type, { schema }] of Object.entries(requestBody?.content ?? {})) {
    part.append(element("h3", `Body, ${type}`), schemaPart(schema));
  }
  const replies = Object.entries(responses);
  for (const [status, { description: text, content }] of replies.filter(([one]) => one.startsWith("2"))) {
    for (const [type, { schema }] of Object.entries(content ?? {})) {
      part.append(element("h3", `Reply ${status}: ${text}, ${type}`), schemaPart(schema));
    }
  }
  const errors = replies.filter(([status]) => !status.startsWith("2"));
  if (errors.length) part.append(element("h3", "Errors"), errorList(errors));
  return part;
}

/** All errors have the same fields: the status says which one it is. */
function errorList(errors) {
  const list = element("ul");
  list.append(...errors.map(([status, { description }]) => element("li", `${status}: ${description}`)));
  return list;
}

function schemaPart(schema) {
  const fields = fieldsOf(schema);
  return fields.length ? fieldTable(fields) : element("p", typeText(schema));
}

/** The fields of a schema with those of inner objects, as { name, type, required, text }. */
function fieldsOf(schema, prefix = "") {
  return Object.entries(schema.properties ?? {}).flatMap(([name, inner]) => {
    const path = prefix + name;
    const field = {
      name: path,
      type: typeText(inner),
      required: schema.required?.includes(name),
      text: inner.description ?? "",
    };
    const items = inner.type === "array" ? fieldsOf(inner.items, `${path}[].`) : fieldsOf(inner, `${path}.`);
    return [field, ...items];
  });
}

function typeText({
  type,
  anyOf,
  enum: values,
  const: value,
  format,
  items,
  minimum,
  maximum,
  default: usual,
}) {
  const usually = usual === undefined ? "" : `, default ${usual}`;
  if (anyOf) return anyOf.map(typeText).join(" or ");
  if (values) return values.join(" | ") + usually;
  if (value !== undefined) return String(value);
  if (format === "binary") return "file";
  if (type === "array") return `list of ${typeText(items)}`;
  const range = minimum !== undefined && maximum !== undefined ? ` from ${minimum} to ${maximum}` : "";
  return ([type ?? "any value"].flat().join(" or ") + range + usually).replace("string", "text");
}

function fieldTable(fields) {
  const table = element("table");
  const head = element("tr");
  head.append(
    ...["Name", "Type", "Meaning"].map((name) => Object.assign(element("th", name), { scope: "col" })),
  );
  const rows = fields.map(({ name, type, required, text }) => {
    const row = element("tr");
    const title = Object.assign(element("th"), { scope: "row" });
    title.append(element("code", name));
    row.append(title, element("td", required ? `${type}, required` : type), element("td", text));
    return row;
  });
  table.append(element("thead"), element("tbody"));
  table.tHead.append(head);
  table.tBodies[0].append(...rows);
  const frame = element("div", "", "frame");
  frame.append(table);
  return frame;
}

new Connection(service, (waits) => service.description(waits), show).connect();
