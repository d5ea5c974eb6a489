// Calls of the HTTP gateway. docs/how-to/run-in-production.md describes paths, errors and events.

/** The method and path of each RPC that the builder calls, as in /openapi.json. */
export const PATHS = {
  ListFields: ["GET", "/crm/audiences/fields"],
  ExplainFilter: ["POST", "/crm/audiences/explain-filter"],
  EstimateReach: ["POST", "/crm/audiences/estimate-reach"],
  StreamReach: ["POST", "/crm/audiences/stream-reach"],
  StreamMembers: ["POST", "/crm/audiences/stream-members"],
  GetInsights: ["GET", "/crm/audiences/segments/{audienceId}/insights"],
  GetOverlapRegions: ["POST", "/crm/audiences/overlap-regions"],
  CreateSegment: ["POST", "/crm/audiences/segments"],
  ListSegments: ["GET", "/crm/audiences/segments"],
  GetSegment: ["GET", "/crm/audiences/segments/{id}"],
  UpdateSegment: ["PUT", "/crm/audiences/segments/{id}"],
  ListLocations: ["GET", "/crm/audiences/locations"],
  ListInterests: ["GET", "/crm/audiences/interests"],
  ListTargetingOptions: ["GET", "/crm/audiences/targeting-options"],
};

/** A refusal: what is wrong in `message`, and at which field in `violations`. */
export class ApiError extends Error {
  constructor({ code = 2, message, details = [] }) {
    super(message);
    const detail = (name) => details.find((each) => each["@type"].endsWith(name)) ?? {};
    this.code = code;
    this.reason = detail("ErrorInfo").reason ?? "";
    this.violations = detail("BadRequest").fieldViolations ?? [];
  }

  /** What to show: without the field paths, which are shown at their places. */
  get problem() {
    return this.violations.map((each) => each.description).join("; ") || this.message;
  }

  /** What to show away from the conditions, as a sentence. */
  get summary() {
    if (this.violations.length) return "A condition is not valid: see the note at it.";
    return this.message.charAt(0).toUpperCase() + this.message.slice(1).replace(/([^.!?])$/, "$1.");
  }
}

export class Api {
  /** `token` is a function that resolves to a valid JWT; it is called for each request, so it can refresh. */
  constructor({ gateway, org, token }) {
    this.gateway = gateway.replace(/\/$/, "");
    this.org = org;
    this.token = token;
  }

  /** The response of an RPC. Raises ApiError, or an AbortError if `signal` ends the call. */
  async call(rpc, options) {
    return (await this.#fetch(rpc, options)).json();
  }

  /** The items of all pages of a list. `name` is their field in the response. */
  async list(rpc, name, query) {
    const items = [];
    for (let pageToken = ""; ; ) {
      const page = await this.call(rpc, { query: { ...query, pageSize: 1000, pageToken } });
      items.push(...page[name]);
      if (!(pageToken = page.nextPageToken)) return items;
    }
  }

  /** The messages of a stream of server-sent events. A stream that ends early raises ApiError. */
  async *stream(rpc, options) {
    const response = await this.#fetch(rpc, options);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) throw new ApiError({ code: 14, message: "The connection to the gateway broke; change something to try again." });
        text += value;
        const events = text.split("\n\n");
        text = events.pop();
        for (const event of events) {
          const lines = event.split("\n");
          const data = JSON.parse(lines.find((line) => line.startsWith("data: ")).slice(6));
          if (!lines.includes("event: end")) yield data;
          else if (data.code) throw new ApiError(data);
          else return;
        }
      }
    } finally {
      reader.cancel().catch(() => {}); // the gateway then cancels the RPC
    }
  }

  async #fetch(rpc, { path = {}, query = {}, body, signal } = {}) {
    const [method, template] = PATHS[rpc];
    const address = template.replace(/{(\w+)}/g, (_, name) => encodeURIComponent(path[name]));
    const parameters = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== ""));
    const headers = { authorization: `Bearer ${await this.token()}`, orgid: this.org };
    if (body) headers["content-type"] = "application/json";
    let response;
    try {
      const url = `${this.gateway}${address}?${parameters}`;
      response = await fetch(url, { method, headers, body: body && JSON.stringify(body), signal, credentials: "omit" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError({ code: 14, message: `The gateway at ${this.gateway} does not answer. Is it running, and does it allow this page's origin?` });
    }
    if (response.ok) return response;
    throw new ApiError(await response.json().catch(() => ({ message: `The gateway answered with status ${response.status}.` })));
  }
}
