// A client of the audience service through its HTTP gateway. It needs Node 20 or later and no package.

import { setTimeout as sleep } from 'node:timers/promises';

const RETRY_DELAYS = [0.5, 1, 2, 4, 8, 15, 30];
const [UNKNOWN, UNAVAILABLE] = [2, 14]; // google/rpc/code.proto
const PROXY_FAILURES = new Set([502, 503, 504]);

/** An error of the service: `reason` names it, `fields` has the problem of each invalid field by its path. */
export class AudienceError extends Error {
  constructor({ code, message, details }) {
    super(message);
    const detail = (name) => details.find((each) => each['@type'].endsWith(name));
    this.code = code;
    this.reason = detail('ErrorInfo')?.reason ?? '';
    this.fields = Object.fromEntries((detail('BadRequest')?.fieldViolations ?? []).map((v) => [v.field, v.description]));
    this.isTemporary = code === UNAVAILABLE || detail('RetryInfo') !== undefined;
  }
}

export class AudienceClient {
  /** `token` is a function that returns a valid JWT, so that a long stream can resume with a fresh one. */
  constructor({ url, org, token }) {
    Object.assign(this, { url, org, token });
  }

  /** The response of a request. It repeats one that fails for a moment: give a `requestId` to whatever creates. */
  async call(method, path, body) {
    for (let attempt = 0; ; attempt++) {
      try {
        return await (await this.#send(method, path, body)).json();
      } catch (error) {
        await waitToRetry(error, attempt);
      }
    }
  }

  /** The items of all pages of a list. `name` is their field in the response. */
  async *list(path, name, query = {}) {
    for (let pageToken = ''; ; ) {
      const page = await this.call('GET', `${path}?${new URLSearchParams({ ...query, pageToken })}`);
      yield* page[name];
      if (!(pageToken = page.nextPageToken)) return;
    }
  }

  /** Each message of a stream once. A stream that breaks continues after the last message. */
  async *stream(path, body) {
    let cursor = '';
    for (let attempt = 0; ; attempt++) {
      try {
        const response = await this.#send('POST', path, { ...body, ...(cursor && { cursor }) });
        for await (const { event, id, data } of readEvents(response.body)) {
          if (event === 'end' && data.code === 0) return;
          if (event === 'end') throw new AudienceError(data);
          cursor = id ?? cursor;
          attempt = 0;
          yield data;
        }
        throw new TypeError('the stream ended before its last event');
      } catch (error) {
        await waitToRetry(error, attempt);
      }
    }
  }

  async #send(method, path, body) {
    const response = await fetch(`${this.url}/crm/audiences${path}`, {
      method,
      headers: { authorization: `Bearer ${await this.token()}`, orgid: this.org, 'content-type': 'application/json' },
      body: body && JSON.stringify(body),
    });
    if (!response.ok) throw await readError(response);
    return response;
  }
}

/** The error of a response. One that is not of the service, as of a proxy, is shown as it is. */
async function readError(response) {
  const text = await response.text();
  try {
    const error = JSON.parse(text);
    if (Array.isArray(error.details)) return new AudienceError(error);
  } catch {
    // not JSON
  }
  const code = PROXY_FAILURES.has(response.status) ? UNAVAILABLE : UNKNOWN;
  const start = text.replace(/\s+/g, ' ').trim().slice(0, 200);
  return new AudienceError({ code, message: `${response.status} ${response.statusText}: ${start}`, details: [] });
}

/** Wait before another attempt. Throws the error if none can help: `fetch` throws a TypeError if a connection breaks. */
async function waitToRetry(error, attempt) {
  const canHelp = error instanceof AudienceError ? error.isTemporary : error instanceof TypeError;
  if (!canHelp || attempt >= RETRY_DELAYS.length) throw error;
  console.warn(`${error.cause?.message ?? error.message}; next attempt in ${RETRY_DELAYS[attempt]} s`);
  await sleep(1000 * RETRY_DELAYS[attempt]);
}

/** Server-sent events as they arrive. */
async function* readEvents(body) {
  let text = '';
  for await (const chunk of body.pipeThrough(new TextDecoderStream())) {
    const events = (text + chunk).split('\n\n');
    text = events.pop();
    for (const event of events) {
      const { data, ...others } = Object.fromEntries(event.split('\n').map((line) => line.split(/: (.*)/s, 2)));
      yield { ...others, data: JSON.parse(data) };
    }
  }
}
