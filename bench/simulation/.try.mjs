// bench/simulation/policy.ts
var queue = -2;
var nobody = -1;
var deaf = {
  start() {
  },
  firstToken() {
  },
  end() {
  },
  failed() {
  },
  cancelled() {
  },
  ps() {
  },
  gone() {
  },
  tick() {
  }
};

// bench/simulation/prototype.ts
var rules = {
  warm: true,
  choices: Number.POSITIVE_INFINITY,
  estimate: "prompt",
  slack: 1.25,
  slackTime: 0,
  crowding: 1,
  affinity: "cost",
  slots: true,
  rest: 60,
  backoff: 2,
  longestRest: 600,
  alive: true,
  cap: 4,
  learnCap: true,
  queue: true,
  coalesce: true,
  perLoad: 4,
  patience: 0.25,
  transfer: true,
  heat: true,
  doubt: true
};
var alpha = 0.3;
var typicalLoad = 15;
var heatHalfLife = 60;
var peakDecay = 15;
var cold = 0;
var loading = 1;
var warm = 2;
var average = (old, value3) => old === 0 ? value3 : old + alpha * (value3 - old);
var prototype = (rules2) => (client) => {
  const count = client.servers;
  const inFlight = new Int32Array(count);
  const restsUntil = new Float64Array(count);
  const strikes = new Uint8Array(count);
  const probing = new Uint8Array(count);
  const speed2 = new Float64Array(count);
  const positions = [];
  const pools = [];
  for (let model = 0; model < client.models; model++) {
    const hosts = client.hosts(model);
    const at = new Int32Array(count).fill(-1);
    hosts.forEach((server, position) => {
      at[server] = position;
    });
    positions.push(at);
    const column = () => new Float64Array(hosts.length);
    pools.push({
      hosts,
      inFlight: new Int16Array(hosts.length),
      state: new Uint8Array(hosts.length),
      cap: new Int16Array(hosts.length).fill(rules2.cap),
      rate: column(),
      peak: column(),
      peakAt: column(),
      loadSince: column(),
      used: column().fill(-1e3),
      begun: column(),
      meanRate: 0,
      meanPeak: 0,
      meanService: 0,
      meanLoad: typicalLoad,
      warmCount: 0,
      loadingCount: 0,
      heat: 0,
      heatAt: 0,
      queue: []
    });
  }
  const open = /* @__PURE__ */ new Map();
  const values = new Float64Array(count);
  const sessions = /* @__PURE__ */ new Map();
  const progress = new Float64Array(count).fill(-1);
  const setState = (pool, position, state) => {
    const old = pool.state[position];
    if (old === state) return;
    if (old === warm) pool.warmCount--;
    if (old === loading) pool.loadingCount--;
    if (state === warm) pool.warmCount++;
    if (state === loading) pool.loadingCount++;
    pool.state[position] = state;
  };
  const usable = (server, now) => {
    const until = restsUntil[server];
    return until === 0 || until <= now && probing[server] === 0;
  };
  const rateOf = (pool, position) => {
    const rate = pool.rate[position];
    if (rate > 0) return rate;
    const relative = rules2.transfer ? speed2[pool.hosts[position]] : 0;
    const mean = pool.meanRate > 0 ? pool.meanRate : 1e3;
    return relative > 0 ? mean * relative : mean;
  };
  const estimate = (pool, position, tokens, now) => {
    const server = pool.hosts[position];
    const busy = inFlight[server];
    if (rules2.estimate === "prompt") return tokens / rateOf(pool, position) * (1 + rules2.crowding * busy);
    const peak = pool.peak[position];
    const mean = pool.meanPeak;
    const decayed = peak === 0 ? mean : mean + (peak - mean) * Math.exp(-(now - pool.peakAt[position]) / peakDecay);
    return Math.max(1e-3, decayed) * (busy + 1);
  };
  const free = (pool, position) => pool.inFlight[position] < pool.cap[position];
  const least = (pool, eligible, score2, choices) => {
    let best = -1;
    let lowest = Number.POSITIVE_INFINITY;
    if (choices >= pool.hosts.length) {
      for (let position = 0; position < pool.hosts.length; position++) {
        if (!eligible(position)) continue;
        const value3 = score2(position);
        values[position] = value3;
        if (value3 < lowest) {
          lowest = value3;
          best = position;
        }
      }
      if (best < 0 || rules2.slack === 1 && rules2.slackTime === 0) return best;
      const bound = lowest * rules2.slack + rules2.slackTime;
      let ties = 0;
      for (let position = 0; position < pool.hosts.length; position++) {
        if (values[position] > bound || !eligible(position)) continue;
        ties++;
        if (client.random() * ties < 1) best = position;
      }
      return best;
    }
    const some = [];
    for (let position = 0; position < pool.hosts.length; position++) if (eligible(position)) some.push(position);
    for (let i = 0; i < Math.min(choices, some.length); i++) {
      const j = i + Math.floor(client.random() * (some.length - i));
      const position = some[j];
      some[j] = some[i];
      some[i] = position;
      const value3 = score2(position);
      if (value3 < lowest) {
        lowest = value3;
        best = position;
      }
    }
    return best;
  };
  const heatOf = (pool, now) => pool.heat * 0.5 ** ((now - pool.heatAt) / heatHalfLife);
  const coldScore = (pool, position, request, now) => {
    const server = pool.hosts[position];
    let score2 = (pool.meanLoad + estimate(pool, position, request.prompt, now)) * (1 + inFlight[server]);
    if (rules2.heat) {
      for (let model = 0; model < pools.length; model++) {
        const other = pools[model];
        const at = positions[model]?.[server];
        if (other === pool || at < 0 || other.state[at] === cold) continue;
        score2 += heatOf(other, now) / other.warmCount * 2;
        if (now - other.used[at] < 30) score2 += 5;
        if (other.state[at] === loading) score2 += 30;
      }
    }
    return score2 + client.random() * 0.01;
  };
  const select = (pool, request, now, tried) => {
    const able = (position) => {
      const server = pool.hosts[position];
      return usable(server, now) && !tried.includes(server);
    };
    const ready = (position) => (!rules2.warm || pool.state[position] === warm) && free(pool, position) && able(position);
    let last = -1;
    let cached2 = 0;
    if (rules2.affinity !== "none" && request.session >= 0) {
      const session = sessions.get(request.session);
      if (session !== void 0) {
        last = positions[request.model]?.[session.server];
        cached2 = Math.min(session.tokens, request.prompt - 1);
        if (rules2.slots && last >= 0) {
          const since = pool.begun[last] - session.mark;
          if (since >= pool.cap[last]) cached2 = 0;
        }
      }
    }
    if (rules2.affinity === "bounded" && last >= 0 && ready(last)) {
      let sum = 0;
      for (const busy of pool.inFlight) sum += busy;
      if (pool.inFlight[last] <= 1.25 * (sum / Math.max(1, pool.warmCount)) + 1) return last;
    }
    const score2 = (position) => estimate(pool, position, request.prompt, now);
    let best = least(pool, ready, score2, rules2.choices);
    if (rules2.affinity === "cost" && last >= 0 && last !== best && ready(last)) {
      const here = estimate(pool, last, request.prompt - cached2, now);
      if (best < 0 || here <= score2(best)) best = last;
    }
    if (best >= 0) return best;
    const coldest = () => least(
      pool,
      (position) => pool.state[position] === cold && able(position),
      (position) => coldScore(pool, position, request, now),
      Number.POSITIVE_INFINITY
    );
    if (!rules2.queue) {
      const crowded = least(
        pool,
        (position) => (!rules2.warm || pool.state[position] !== cold) && able(position),
        (position) => pool.inFlight[position] + score2(position) * 1e-3,
        Number.POSITIVE_INFINITY
      );
      if (crowded >= 0 && pool.inFlight[crowded] < rules2.cap + rules2.perLoad) return crowded;
      const load = coldest();
      return load >= 0 ? load : crowded;
    }
    let loads = 0;
    let slots = 0;
    for (let position = 0; position < pool.hosts.length; position++) {
      const state = pool.state[position];
      if (state === loading && now - pool.loadSince[position] < 2 * pool.meanLoad) loads++;
      if (state === warm && usable(pool.hosts[position], now)) slots += pool.inFlight[position];
    }
    const ahead = pool.queue.length + 1;
    if (rules2.coalesce) {
      if (slots === 0) {
        if (loads > 0 && ahead <= loads * rules2.perLoad) return -1;
      } else {
        const wait = ahead * (pool.meanService > 0 ? pool.meanService : 5) / slots;
        if (wait < pool.meanLoad * rules2.patience || ahead <= loads * rules2.perLoad) return -1;
      }
    }
    return coldest();
  };
  const enqueue = (pool, request, front) => {
    if (front) pool.queue.unshift(request);
    else pool.queue.push(request);
    return queue;
  };
  const wakeNext = (pool) => {
    const next = pool.queue.shift();
    if (next !== void 0) client.wake(next.id);
  };
  const release = (server, request) => {
    const entry = open.get(request.id);
    if (entry === void 0) return void 0;
    open.delete(request.id);
    const pool = pools[request.model];
    inFlight[server] = inFlight[server] - 1;
    pool.inFlight[entry.position] = pool.inFlight[entry.position] - 1;
    if (entry.probe) probing[server] = 0;
    return entry;
  };
  return {
    choose(request, now) {
      const pool = pools[request.model];
      pool.heat = heatOf(pool, now) + 1;
      pool.heatAt = now;
      const tried = [];
      let waited = false;
      return {
        next(at) {
          if (!waited && pool.queue.length > 0 && tried.length === 0) {
            waited = true;
            enqueue(pool, request, false);
            wakeNext(pool);
            return queue;
          }
          const position = select(pool, request, at, tried);
          if (position < 0) {
            const front = waited || tried.length > 0;
            waited = true;
            tried.length = 0;
            return enqueue(pool, request, front);
          }
          waited = true;
          const server = pool.hosts[position];
          tried.push(server);
          wakeNext(pool);
          return server;
        }
      };
    },
    start(server, request, now) {
      const pool = pools[request.model];
      const position = positions[request.model]?.[server];
      const probe = restsUntil[server] !== 0;
      if (probe) probing[server] = 1;
      inFlight[server] = inFlight[server] + 1;
      pool.inFlight[position] = pool.inFlight[position] + 1;
      pool.used[position] = now;
      pool.begun[position] = pool.begun[position] + 1;
      open.set(request.id, { position, started: now, beside: pool.inFlight[position], probe });
      if (pool.state[position] === cold) {
        setState(pool, position, loading);
        pool.loadSince[position] = now;
        if (rules2.doubt) {
          for (let model = 0; model < pools.length; model++) {
            const other = pools[model];
            const at = positions[model]?.[server];
            if (other === pool || at < 0) continue;
            if (other.state[at] === warm && other.inFlight[at] === 0) setState(other, at, cold);
          }
        }
      }
    },
    firstToken(server, request, time, now) {
      const pool = pools[request.model];
      const position = positions[request.model]?.[server];
      const wasLoading = pool.state[position] === loading;
      setState(pool, position, warm);
      restsUntil[server] = 0;
      strikes[server] = 0;
      progress[server] = now;
      if (wasLoading) {
        pool.meanLoad = average(pool.meanLoad, Math.max(1, now - pool.loadSince[position]));
      } else {
        const old = pool.peak[position];
        const decayed = old * Math.exp(-(now - pool.peakAt[position]) / peakDecay);
        pool.peak[position] = time > old ? time : time + (decayed > time ? decayed - time : 0);
        pool.peakAt[position] = now;
        pool.meanPeak = pool.meanPeak === 0 ? time : pool.meanPeak + 0.05 * (time - pool.meanPeak);
      }
      wakeNext(pool);
    },
    end(server, request, counters, now) {
      const pool = pools[request.model];
      const entry = release(server, request);
      if (entry === void 0) return;
      const { position, beside } = entry;
      setState(pool, position, warm);
      pool.used[position] = now;
      const rate = counters.promptTokens / Math.max(1e-3, counters.promptTime);
      if (counters.promptTokens >= 32) {
        pool.rate[position] = average(pool.rate[position], rate);
        pool.meanRate = pool.meanRate === 0 ? rate : pool.meanRate + 0.05 * (rate - pool.meanRate);
        speed2[server] = average(speed2[server], rate / pool.meanRate);
      }
      const service = now - entry.started - counters.loadTime - counters.waitTime;
      pool.meanService = pool.meanService === 0 ? service : pool.meanService + 0.05 * (service - pool.meanService);
      if (rules2.learnCap) {
        const cap = pool.cap[position];
        if (counters.waitTime > 0.05 && counters.loadTime === 0) {
          if (beside <= cap && beside > 1) pool.cap[position] = beside - 1;
        } else if (beside >= cap && pool.queue.length > 0 && cap < 16) pool.cap[position] = cap + 1;
      }
      if (request.session >= 0) {
        sessions.set(request.session, {
          server,
          tokens: request.prompt + counters.tokens,
          mark: pool.begun[position]
        });
      }
      wakeNext(pool);
    },
    failed(server, request, failure, now) {
      const pool = pools[request.model];
      const entry = release(server, request);
      if (entry === void 0) return;
      if (pool.state[entry.position] === loading && pool.inFlight[entry.position] === 0) {
        setState(pool, entry.position, cold);
      }
      if (rules2.rest > 0) {
        const busy = rules2.alive && failure === "timeout" && progress[server] > entry.started;
        if (restsUntil[server] <= now && !busy) {
          const rest = Math.min(rules2.longestRest, rules2.rest * rules2.backoff ** strikes[server]);
          restsUntil[server] = now + rest;
          if (strikes[server] < 20) strikes[server] = strikes[server] + 1;
        }
        if (failure !== "timeout" && failure !== "stalled") {
          for (let model = 0; model < pools.length; model++) {
            const at = positions[model]?.[server];
            if (at >= 0) setState(pools[model], at, cold);
          }
        }
      }
    },
    cancelled(server, request) {
      release(server, request);
      wakeNext(pools[request.model]);
    },
    ps(server, models2, now) {
      for (let model = 0; model < pools.length; model++) {
        const pool = pools[model];
        const at = positions[model]?.[server];
        if (at < 0) continue;
        if (models2.includes(model)) {
          const before = pool.state[at];
          setState(pool, at, warm);
          if (before !== warm) wakeNext(pool);
        } else if (pool.state[at] === warm) setState(pool, at, pool.inFlight[at] === 0 ? cold : loading);
        else if (pool.state[at] === loading && pool.inFlight[at] === 0) setState(pool, at, cold);
        if (pool.state[at] === loading && pool.loadSince[at] === 0) pool.loadSince[at] = now;
      }
    },
    gone({ id, model }) {
      const pool = pools[model];
      const at = pool.queue.findIndex((request) => request.id === id);
      if (at >= 0) pool.queue.splice(at, 1);
    },
    tick() {
      for (const pool of pools) wakeNext(pool);
    }
  };
};
var prototypeWith = (name, about, changes) => ({
  name,
  about,
  attempts: Number.POSITIVE_INFINITY,
  make: prototype({ ...rules, ...changes })
});
var ours = prototypeWith("ours", "least-busy, warm, affinity, caps, queue, breaker", {});
var ablations = [
  prototypeWith("slack 1", "", { slack: 1 }),
  prototypeWith("slack 1.1", "", { slack: 1.1 }),
  prototypeWith("slack 1.5", "", { slack: 1.5 }),
  prototypeWith("crowding .7", "", { crowding: 0.7 }),
  prototypeWith("fixed cap 4", "", { learnCap: false }),
  prototypeWith("fixed cap 2", "", { learnCap: false, cap: 2 }),
  prototypeWith("cap 2", "", { cap: 2 }),
  prototypeWith("simple", "", { transfer: false, heat: false, doubt: false }),
  prototypeWith("l2", "", { perLoad: 2 }),
  prototypeWith("no coalescing", "", { coalesce: false })
];

// bench/simulation/baselines.ts
var attempts = 3;
var untried = (hosts, choose) => {
  const tried = [];
  return {
    next() {
      if (tried.length >= hosts.length) return nobody;
      const server = choose(tried);
      tried.push(server);
      return server;
    }
  };
};
var anyOf = (hosts, tried, random3) => {
  for (; ; ) {
    const server = hosts[Math.floor(random3() * hosts.length)];
    if (!tried.includes(server)) return server;
  }
};
var counting = (client, choose) => {
  const inFlight = new Int32Array(client.servers);
  const release = (server) => {
    inFlight[server] = inFlight[server] - 1;
  };
  return {
    ...deaf,
    choose: choose(inFlight),
    start(server) {
      inFlight[server] = inFlight[server] + 1;
    },
    end: release,
    failed: release,
    cancelled: release
  };
};
var random = {
  name: "random",
  about: "any server that has the model",
  attempts,
  make: (client) => ({
    ...deaf,
    choose: ({ model }) => {
      const hosts = client.hosts(model);
      return untried(hosts, (tried) => anyOf(hosts, tried, client.random));
    }
  })
};
var roundRobin = {
  name: "round-robin",
  about: "one after the other, per model",
  attempts,
  make: (client) => {
    const turn = new Int32Array(client.models);
    return {
      ...deaf,
      choose: ({ model }) => {
        const hosts = client.hosts(model);
        return untried(hosts, () => {
          const at = turn[model];
          turn[model] = (at + 1) % hosts.length;
          return hosts[at];
        });
      }
    };
  }
};
var leastConnections = {
  name: "least-conn",
  about: "fewest requests in flight",
  attempts,
  make: (client) => counting(client, (inFlight) => ({ model }) => {
    const hosts = client.hosts(model);
    return untried(hosts, (tried) => {
      let best = -1;
      let least = Number.POSITIVE_INFINITY;
      let ties = 0;
      for (const server of hosts) {
        const count = inFlight[server];
        if (count > least || tried.includes(server)) continue;
        if (count < least) ties = 0;
        ties++;
        if (count < least || client.random() * ties < 1) best = server;
        least = count;
      }
      return best;
    });
  })
};
var twoChoices = {
  name: "p2c",
  about: "the one of two random servers with fewer in flight",
  attempts,
  make: (client) => counting(client, (inFlight) => ({ model }) => {
    const hosts = client.hosts(model);
    return untried(hosts, (tried) => {
      const a = anyOf(hosts, tried, client.random);
      if (tried.length + 1 >= hosts.length) return a;
      const b = anyOf(hosts, tried, client.random);
      return inFlight[b] < inFlight[a] ? b : a;
    });
  })
};
var oracleSample = 200;
var oracle = {
  name: "oracle",
  about: "knows every queue, load and outage; takes the earliest first token",
  attempts: Number.POSITIVE_INFINITY,
  make: (client, truth) => {
    const waiting = /* @__PURE__ */ new Set();
    return {
      ...deaf,
      choose: (request) => {
        const hosts = client.hosts(request.model);
        return {
          next() {
            let best = -1;
            let least = Number.POSITIVE_INFINITY;
            const all2 = hosts.length <= 1e3;
            const count = all2 ? hosts.length : oracleSample;
            for (let i = 0; i < count; i++) {
              const server = hosts[all2 ? i : Math.floor(client.random() * hosts.length)];
              const time = truth.predict(server, request, least);
              if (time < least) {
                least = time;
                best = server;
              }
            }
            if (best >= 0) return best;
            waiting.add(request.id);
            return queue;
          }
        };
      },
      gone: ({ id }) => void waiting.delete(id),
      tick() {
        for (const id of waiting) client.wake(id);
        waiting.clear();
      }
    };
  }
};

// bench/simulation/router.ts
import * as Clock2 from "effect/Clock";
import * as Effect7 from "effect/Effect";
import * as Either6 from "effect/Either";

// src/Fleet.ts
import * as Context2 from "effect/Context";
import * as Effect from "effect/Effect";
import * as Layer2 from "effect/Layer";

// src/Settings.ts
import * as Context from "effect/Context";
import * as Layer from "effect/Layer";

// src/ChatRequest.ts
import * as Either from "effect/Either";
import * as ParseResult from "effect/ParseResult";
import * as Schema3 from "effect/Schema";

// src/Errors.ts
import * as Schema from "effect/Schema";
var Phase = Schema.Literal("connect", "first-token", "stream");
var FailureReason = Schema.Literal(
  "refused",
  "dns",
  "reset",
  "tls",
  "network",
  "connect-timeout",
  "first-token-timeout",
  "idle-timeout",
  "server-error",
  "malformed",
  "cut",
  "rate-limited",
  "busy",
  "model-not-found",
  "unauthorized",
  "invalid-request",
  "unsupported",
  "diverged",
  "engine"
);
var Attempt = Schema.Struct({
  server: Schema.String,
  phase: Phase,
  reason: FailureReason,
  message: Schema.String,
  elapsed: Schema.Number,
  status: Schema.optionalWith(Schema.Number, { exact: true })
});
var describeAttempt = (attempt) => `${attempt.server} (${attempt.reason}, ${attempt.phase}, ${Math.round(attempt.elapsed)} ms): ${attempt.message}`;
var describeAttempts = (attempts2) => attempts2.map((attempt) => `
  - ${describeAttempt(attempt)}`).join("");
var InvalidRequest = class extends Schema.TaggedError("aicortex/InvalidRequest")("InvalidRequest", {
  field: Schema.String,
  reason: Schema.String,
  server: Schema.optionalWith(Schema.String, { exact: true })
}) {
  get message() {
    return this.server === void 0 ? `Invalid request: ${this.field}: ${this.reason}` : `Invalid request: ${this.server} answered: ${this.reason}`;
  }
};
var ModelNotFound = class extends Schema.TaggedError("aicortex/ModelNotFound")("ModelNotFound", {
  model: Schema.String,
  suggestions: Schema.Array(Schema.String)
}) {
  get message() {
    const near = this.suggestions.length === 0 ? "" : ` Did you mean ${this.suggestions.join(", ")}?`;
    return `Model '${this.model}' not found.${near} List what there is with models() or \`aicortex models\`.`;
  }
};
var NoServers = class extends Schema.TaggedError("aicortex/NoServers")("NoServers", {
  model: Schema.String,
  servers: Schema.Array(Schema.String),
  available: Schema.Array(Schema.String)
}) {
  get message() {
    if (this.servers.length === 0) {
      return `No servers available for model '${this.model}': no server is known. Name yours with \`aicortex servers add URL\`, AICORTEX_SERVERS or createCortex({ servers }), or use the model that is built in: "aicortex-demo".`;
    }
    const others = this.available.length === 0 ? "" : ` They have: ${this.available.join(", ")}.`;
    return `No servers available for model '${this.model}': none of ${this.servers.join(", ")} has it.${others} Get it with \`ollama pull ${this.model}\` on one of them, or choose another model.`;
  }
};
var AllServersFailed = class extends Schema.TaggedError("aicortex/AllServersFailed")(
  "AllServersFailed",
  { model: Schema.String, attempts: Schema.Array(Attempt) }
) {
  get message() {
    const n2 = this.attempts.length;
    return `All server attempts failed for model '${this.model}' (${n2} ${n2 === 1 ? "attempt" : "attempts"}). Check that the servers are up, or add another:${describeAttempts(this.attempts)}`;
  }
};
var StreamInterrupted = class extends Schema.TaggedError("aicortex/StreamInterrupted")(
  "StreamInterrupted",
  { model: Schema.String, partial: Schema.String, attempts: Schema.Array(Attempt) }
) {
  get message() {
    return `The answer of '${this.model}' broke after ${this.partial.length} characters and no server could go on with it. The text so far is in \`partial\`; ask again to start over:${describeAttempts(this.attempts)}`;
  }
};
var DeadlineExceeded = class extends Schema.TaggedError("aicortex/DeadlineExceeded")(
  "DeadlineExceeded",
  {
    model: Schema.String,
    deadline: Schema.Number,
    partial: Schema.String,
    attempts: Schema.Array(Attempt)
  }
) {
  get message() {
    const list3 = this.attempts.length === 0 ? "" : ` Attempts that failed before:${describeAttempts(this.attempts)}`;
    return `No complete answer from '${this.model}' within the deadline of ${this.deadline} ms. Allow more time, or ask for less.${list3}`;
  }
};
var SchemaIssue = Schema.Struct({ path: Schema.String, message: Schema.String });
var SchemaMismatch = class extends Schema.TaggedError("aicortex/SchemaMismatch")("SchemaMismatch", {
  model: Schema.String,
  issues: Schema.Array(SchemaIssue),
  text: Schema.String
}) {
  get message() {
    const issues = this.issues.map((i) => i.path === "" ? i.message : `${i.path}: ${i.message}`).join("; ");
    const text = this.text.length > 200 ? `${this.text.slice(0, 200)}\u2026` : this.text;
    return `The reply of '${this.model}' does not fit: ${issues}. Try a larger model or a simpler schema. The reply: ${text}`;
  }
};
var SessionNotFound = class extends Schema.TaggedError("aicortex/SessionNotFound")(
  "SessionNotFound",
  { id: Schema.String }
) {
  get message() {
    return `No session with id '${this.id}' found. Create one, with Session.create() or Sessions.create(), and use its id; sessions live in memory and end with their process.`;
  }
};
var PersonaNotFound = class extends Schema.TaggedError("aicortex/PersonaNotFound")(
  "PersonaNotFound",
  { persona: Schema.String, known: Schema.Array(Schema.String) }
) {
  get message() {
    const known = this.known.length === 0 ? "the configuration names none" : `there are: ${this.known.join(", ")}`;
    return `No persona is named '${this.persona}': ${known}. Add it under "personas" in the configuration.`;
  }
};
var EngineUnavailable = class extends Schema.TaggedError("aicortex/EngineUnavailable")(
  "EngineUnavailable",
  { reason: Schema.String, install: Schema.String }
) {
  get message() {
    return `The embedded engine cannot run: ${this.reason}. Install it with \`${this.install}\`, or use a model server.`;
  }
};
var InvalidConfig = class extends Schema.TaggedError("aicortex/InvalidConfig")("InvalidConfig", {
  source: Schema.String,
  field: Schema.String,
  reason: Schema.String
}) {
  get message() {
    return `Invalid configuration in ${this.source}: ${this.field}: ${this.reason}`;
  }
};
var ToolFailed = class extends Schema.TaggedError("aicortex/ToolFailed")("ToolFailed", {
  tool: Schema.String,
  reason: Schema.String,
  cause: Schema.optionalWith(Schema.Defect, { exact: true })
}) {
  get message() {
    return `The tool '${this.tool}' failed: ${this.reason}. Let it return a value that describes the failure if the model should see it.`;
  }
};
var ChatError = Schema.Union(
  InvalidRequest,
  ModelNotFound,
  NoServers,
  AllServersFailed,
  StreamInterrupted,
  DeadlineExceeded,
  SessionNotFound,
  PersonaNotFound,
  EngineUnavailable,
  ToolFailed
);
var RegistryWarning = class extends Schema.TaggedError("aicortex/RegistryWarning")(
  "RegistryWarning",
  {
    file: Schema.String,
    record: Schema.optionalWith(Schema.Union(Schema.Number, Schema.String), { exact: true }),
    field: Schema.optionalWith(Schema.String, { exact: true }),
    reason: Schema.String
  }
) {
  get message() {
    const record = this.record === void 0 ? "" : `, record ${this.record}`;
    const field = this.field === void 0 ? "" : `, field ${this.field}`;
    return `${this.file}${record}${field}: ${this.reason}`;
  }
};

// src/Message.ts
import * as Schema2 from "effect/Schema";
var TextPart = Schema2.Struct({ type: Schema2.Literal("text"), text: Schema2.String });
var ImagePart = Schema2.Union(
  Schema2.Struct({ type: Schema2.Literal("image"), data: Schema2.NonEmptyString, mediaType: Schema2.NonEmptyString }),
  Schema2.Struct({ type: Schema2.Literal("image"), url: Schema2.NonEmptyString })
);
var Content = Schema2.Union(Schema2.String, Schema2.Array(Schema2.Union(TextPart, ImagePart)));
var ToolCall = Schema2.Struct({
  id: Schema2.String,
  name: Schema2.String,
  arguments: Schema2.Record({ key: Schema2.String, value: Schema2.Unknown })
});
var SystemMessage = Schema2.Struct({
  role: Schema2.Literal("system", "developer"),
  content: Schema2.String
});
var UserMessage = Schema2.Struct({ role: Schema2.Literal("user"), content: Content });
var AssistantMessage = Schema2.Struct({
  role: Schema2.Literal("assistant"),
  content: Schema2.String,
  thinking: Schema2.optionalWith(Schema2.String, { exact: true }),
  toolCalls: Schema2.optionalWith(Schema2.Array(ToolCall), { exact: true })
});
var ToolMessage = Schema2.Struct({
  role: Schema2.Literal("tool"),
  content: Schema2.String,
  toolCallId: Schema2.String,
  toolName: Schema2.String
});
var Message = Schema2.Union(SystemMessage, UserMessage, AssistantMessage, ToolMessage);

// src/ChatRequest.ts
var Routing = Schema3.Literal("random", "fastest", "nearest", "balanced");
var optional2 = (schema) => Schema3.optional(schema);
var milliseconds = Schema3.Number.pipe(
  Schema3.filter((n2) => Number.isFinite(n2) && n2 > 0 ? void 0 : "must be a number of milliseconds above 0")
);
var range = (min, max2) => Schema3.Number.pipe(Schema3.filter((n2) => n2 >= min && n2 <= max2 ? void 0 : `must be from ${min} to ${max2}`));
var wholeFrom = (min) => Schema3.Number.pipe(
  Schema3.filter((n2) => Number.isSafeInteger(n2) && n2 >= min ? void 0 : `must be a whole number from ${min}`)
);
var JsonObjectSchema = Schema3.Record({ key: Schema3.String, value: Schema3.Unknown });
var Options = Schema3.Struct({
  /** Default: the configured model (`AICORTEX_MODEL`), else `gpt-oss:20b` (`llama3.2:3b` on the command line). */
  model: optional2(Schema3.NonEmptyTrimmedString),
  /** System prompt for this call only; never stored in a session. */
  system: optional2(Schema3.String),
  /** The name of a system prompt in the configuration. */
  persona: optional2(Schema3.NonEmptyString),
  /** 0 to 2, default 0.7. */
  temperature: optional2(range(0, 2)),
  /** 0 to 1, default 1. */
  topP: optional2(range(0, 1)),
  /** At most so many tokens; default: what the server does. */
  maxTokens: optional2(wholeFrom(1)),
  /** Stop before any of these strings. */
  stop: optional2(Schema3.Union(Schema3.NonEmptyString, Schema3.Array(Schema3.NonEmptyString))),
  seed: optional2(Schema3.Int),
  /** -2 to 2. */
  frequencyPenalty: optional2(range(-2, 2)),
  /** -2 to 2. */
  presencePenalty: optional2(range(-2, 2)),
  topK: optional2(wholeFrom(0)),
  /** 0 to 1. */
  minP: optional2(range(0, 1)),
  /** Above 0; 1 is none. */
  repeatPenalty: optional2(Schema3.Number.pipe(Schema3.filter((n2) => n2 > 0 ? void 0 : "must be above 0"))),
  tools: optional2(
    Schema3.Array(
      Schema3.Struct({
        name: Schema3.NonEmptyString,
        description: optional2(Schema3.String),
        parameters: optional2(JsonObjectSchema)
      })
    )
  ),
  toolChoice: optional2(
    Schema3.Union(Schema3.Literal("auto", "none", "required"), Schema3.Struct({ name: Schema3.NonEmptyString }))
  ),
  /** How long Ollama keeps the model loaded: seconds, or a duration such as `5m`; -1 for ever, 0 not at all. */
  keepAlive: optional2(Schema3.Union(Schema3.Number, Schema3.NonEmptyString)),
  think: optional2(Schema3.Union(Schema3.Boolean, Schema3.Literal("low", "medium", "high", "max"))),
  /** Ollama's own options (`num_ctx`, `mirostat`, …), passed on as they are. */
  options: optional2(JsonObjectSchema),
  /** Default `random`. */
  routing: optional2(Routing),
  /** The longest silence in any phase, in milliseconds; default 30,000. */
  timeout: optional2(milliseconds),
  /** Until the connection stands, in milliseconds; default 5,000 or `timeout`, whichever is less. */
  connectTimeout: optional2(milliseconds),
  /** From the request to the first piece of the answer, in milliseconds; default `timeout`. */
  firstTokenTimeout: optional2(milliseconds),
  /** Between two pieces of the answer, in milliseconds; default `timeout`. */
  idleTimeout: optional2(milliseconds),
  /** For the whole call with all its attempts, in milliseconds; default none. */
  deadline: optional2(milliseconds),
  /** Attempts in all, the first included; default: every server once. More than there are servers goes round again. */
  maxRetries: optional2(wholeFrom(1)),
  /** Pause before the same server is tried again, in milliseconds, doubled each time, with jitter; default 500. */
  retryBackoff: optional2(Schema3.Number.pipe(Schema3.filter((n2) => n2 >= 0 ? void 0 : "must not be negative")))
});
var decodeOptionsEither = Schema3.decodeUnknownEither(Options, { onExcessProperty: "error" });
var decodeMessagesEither = Schema3.decodeUnknownEither(Schema3.NonEmptyArray(Message), { onExcessProperty: "error" });
var optionNames = Object.keys(Options.fields);
var defaults = {
  model: "gpt-oss:20b",
  temperature: 0.7,
  topP: 1,
  routing: "random",
  timeout: 3e4,
  connectTimeout: 5e3,
  retryBackoff: 500
};

// src/Settings.ts
var CurrentSettings = class extends Context.Tag("aicortex/Settings")() {
};
var empty = {
  model: defaults.model,
  modelNamed: false,
  servers: [],
  registry: [],
  personas: {},
  location: void 0,
  cacheTtl: 6e4,
  bestServerTtl: 3e5,
  discoveryTtl: 3e5
};

// src/Fleet.ts
var Fleet = class extends Context2.Tag("aicortex/Fleet")() {
};
var maxBelievableSpeed = 2e3;
var alpha2 = 0.3;
var average2 = (old, value3) => value3 === void 0 || !Number.isFinite(value3) ? old : old === void 0 ? value3 : old + alpha2 * (value3 - old);
var breakerState = (breaker, now) => breaker.restsUntil === 0 ? "closed" : breaker.restsUntil > now ? "open" : "half-open";
var blame = (failure) => {
  switch (failure.reason) {
    case "rate-limited":
    case "busy":
    case "model-not-found":
      return "model";
    case "unauthorized":
    case "invalid-request":
    case "unsupported":
    case "diverged":
    case "engine":
      return "none";
    default:
      return "server";
  }
};
var make = Effect.gen(function* () {
  const settings = yield* CurrentSettings;
  const clock3 = yield* Effect.clock;
  const servers = /* @__PURE__ */ new Map();
  const serverState = (url) => {
    let state = servers.get(url);
    if (state === void 0) {
      state = { inFlight: 0, roundTrip: void 0, breaker: { restsUntil: 0, probing: false }, models: /* @__PURE__ */ new Map() };
      servers.set(url, state);
    }
    return state;
  };
  const modelState = (server, model) => {
    let state = server.models.get(model);
    if (state === void 0) {
      state = {
        breaker: { restsUntil: 0, probing: false },
        proven: false,
        tokensPerSecond: void 0,
        firstTokenTime: void 0
      };
      server.models.set(model, state);
    }
    return state;
  };
  const snapshot = (url, model) => {
    const now = clock3.unsafeCurrentTimeMillis();
    const server = servers.get(url);
    const state = server?.models.get(model);
    const whole = server === void 0 ? "closed" : breakerState(server.breaker, now);
    const own = state === void 0 ? "closed" : breakerState(state.breaker, now);
    return {
      inFlight: server?.inFlight ?? 0,
      breaker: whole === "open" || own === "open" ? "open" : whole === "half-open" || own === "half-open" ? "half-open" : "closed",
      restsUntil: Math.max(server?.breaker.restsUntil ?? 0, state?.breaker.restsUntil ?? 0),
      probing: server?.breaker.probing === true || state?.breaker.probing === true,
      proven: state?.proven ?? false,
      tokensPerSecond: state?.tokensPerSecond,
      firstTokenTime: state?.firstTokenTime,
      roundTrip: server?.roundTrip
    };
  };
  const lease = (url, model) => {
    const server = serverState(url);
    const state = modelState(server, model);
    server.inFlight++;
    const probes = server.breaker.restsUntil !== 0 || state.breaker.restsUntil !== 0;
    if (probes) {
      server.breaker.probing = true;
      state.breaker.probing = true;
    }
    let open = true;
    const release = () => {
      if (!open) return false;
      open = false;
      server.inFlight--;
      if (probes) {
        server.breaker.probing = false;
        state.breaker.probing = false;
      }
      return true;
    };
    return {
      succeed(observation) {
        if (!release()) return;
        server.breaker.restsUntil = 0;
        state.breaker.restsUntil = 0;
        state.proven = true;
        const speed2 = observation.tokensPerSecond;
        state.tokensPerSecond = average2(
          state.tokensPerSecond,
          speed2 === void 0 ? void 0 : Math.min(speed2, maxBelievableSpeed)
        );
        state.firstTokenTime = average2(state.firstTokenTime, observation.firstTokenTime);
      },
      fail(failure) {
        if (!release()) return;
        const whose = blame(failure);
        if (whose === "none") return;
        state.proven = false;
        const breaker = whose === "server" ? server.breaker : state.breaker;
        breaker.restsUntil = clock3.unsafeCurrentTimeMillis() + (failure.retryAfter ?? settings.cacheTtl);
      },
      cancel() {
        release();
      }
    };
  };
  const roundTrip = (url, milliseconds2) => {
    const server = serverState(url);
    server.roundTrip = average2(server.roundTrip, milliseconds2);
  };
  return Fleet.of({
    snapshot,
    lease,
    roundTrip,
    clear: Effect.sync(() => {
      for (const [url, server] of servers) {
        if (server.inFlight === 0) servers.delete(url);
        else {
          server.breaker.restsUntil = 0;
          for (const state of server.models.values()) {
            state.breaker.restsUntil = 0;
            state.proven = false;
            state.tokensPerSecond = void 0;
            state.firstTokenTime = void 0;
          }
        }
      }
    })
  });
});
var layer = Layer2.effect(Fleet, make);

// src/Router.ts
import * as Context4 from "effect/Context";
import * as Effect6 from "effect/Effect";
import * as Layer4 from "effect/Layer";

// src/internal/prng.ts
var make2 = (seed) => {
  let state = seed | 0;
  return () => {
    state = state + 1831565813 | 0;
    let t = Math.imul(state ^ state >>> 15, 1 | state);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) / 4294967296;
  };
};

// src/Registry.ts
import * as FileSystem3 from "@effect/platform/FileSystem";
import * as HttpClient from "@effect/platform/HttpClient";
import * as Path3 from "@effect/platform/Path";
import * as Context3 from "effect/Context";
import * as Duration2 from "effect/Duration";
import * as Effect5 from "effect/Effect";
import * as Either5 from "effect/Either";
import * as Layer3 from "effect/Layer";
import * as Random from "effect/Random";

// src/Model.ts
var demoModel = "aicortex-demo";
var demoInfo = {
  model_name: demoModel,
  family: "others",
  parameter_size: "2.15M",
  quantization_level: "Q8_0",
  size: 2330720,
  context_length: 512,
  capabilities: ["completion"],
  format: "gguf"
};
var units = { k: 3, m: 6, b: 9, t: 12 };
var sizePattern = /^(?:(\d+)x)?e?(\d+(?:\.\d+)?)([kmbt])$/;
var parseParameters = (size) => {
  if (typeof size === "number") return Number.isFinite(size) && size >= 0 ? size : void 0;
  const text = size.trim().toLowerCase();
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text);
  const match2 = sizePattern.exec(text);
  if (match2 === null) return void 0;
  const count = Number(match2[1] ?? 1) * Number(`${match2[2]}e${units[match2[3] ?? ""]}`);
  return Number.isFinite(count) ? Math.round(count) : void 0;
};
var canonical = (name) => {
  let key = name.trim().toLowerCase();
  if (key.startsWith("registry.ollama.ai/")) key = key.slice(19);
  if (key.startsWith("library/")) key = key.slice(8);
  return key.endsWith(":latest") ? key.slice(0, -7) : key;
};
var split = (name) => {
  const last = name.trim().toLowerCase().split("/").at(-1) ?? "";
  const colon = last.indexOf(":");
  return colon === -1 ? [last, ""] : [last.slice(0, colon), last.slice(colon + 1)];
};
var quantizations = /(?:^|[-_.:])(iq\d_(?:xxs|xs|s|m|nl)|q\d_k(?:_(?:xs|xl|s|m|l))?|q\d_[01]|q\d|bf16|fp?(?:16|32)|(?:mx|nv)fp\d|fp8|int\d)(?=$|[-_.])/g;
var sizeInName = /(?:^|[-_])((?:\d+x)?e?\d+(?:\.\d+)?[mbt])(?=$|[-_.])/;
var sizeOfName = (name) => {
  const [repository, tag] = split(name);
  const size = sizeInName.exec(tag)?.[1] ?? sizeInName.exec(repository)?.[1];
  return size === void 0 ? void 0 : parseParameters(size);
};
var generation = (name) => {
  const repository = split(name)[0].replace(quantizations, "");
  for (const match2 of repository.matchAll(/(\d+)(?:\.\d+)*(x\d+)?([a-z]*)/g)) {
    const [, digits = "", times, letters = ""] = match2;
    const value3 = Number(digits);
    if (times === void 0 && !/^[kmbt]$/.test(letters) && digits.length <= 2 && value3 > 0) return value3;
  }
  return void 0;
};
var familyWords = [
  ["mistral", /mistral|ministral|mixtral|codestral|devstral|magistral|mathstral|pixtral|voxtral/],
  ["llama", /llama|llava/],
  ["gemma", /gemma/],
  ["qwen", /qwen|qwq|qvq/],
  ["deepseek", /deepseek/]
];
var familyOf = (name) => {
  const repository = split(name)[0];
  return familyWords.find(([, words]) => words.test(repository))?.[0] ?? "others";
};
var distance = (a, b, limit, row) => {
  if (Math.abs(a.length - b.length) > limit) return limit + 1;
  for (let j = 0; j <= b.length; j++) row[j] = j;
  for (let i = 1; i <= a.length; i++) {
    let diagonal = i - 1;
    let least = i;
    row[0] = i;
    for (let j = 1; j <= b.length; j++) {
      const above = row[j] ?? 0;
      const cost = a.charCodeAt(i - 1) === b.charCodeAt(j - 1) ? diagonal : 1 + Math.min(diagonal, above, row[j - 1] ?? 0);
      diagonal = above;
      row[j] = cost;
      if (cost < least) least = cost;
    }
    if (least > limit) return limit + 1;
  }
  return row[b.length] ?? 0;
};
var nearest = (name, names, n2 = 3) => {
  const wanted = canonical(name);
  if (wanted === "") return [];
  const limit = Math.max(Math.min(2, wanted.length - 1), Math.floor(wanted.length / 3));
  const row = [];
  const found = [];
  const seen = /* @__PURE__ */ new Set();
  for (const candidate of names) {
    const key = canonical(candidate);
    if (key === wanted || seen.has(key)) continue;
    const bound = found.length < n2 ? limit : Math.min(limit, Math.ceil(found[n2 - 1]?.score ?? limit));
    let score2 = distance(wanted, key, bound, row);
    if (score2 > bound) score2 = Number.POSITIVE_INFINITY;
    if (wanted.length > 2 && key.length > 2 && (key.includes(wanted) || wanted.includes(key))) {
      score2 = Math.min(score2, 1 + Math.abs(key.length - wanted.length) / 16);
    }
    if (score2 === Number.POSITIVE_INFINITY) continue;
    seen.add(key);
    let at = found.length;
    while (at > 0 && (found[at - 1]?.score ?? 0) > score2) at--;
    if (at >= n2) continue;
    found.splice(at, 0, { name: candidate, score: score2 });
    if (found.length > n2) found.pop();
  }
  return found.map((entry) => entry.name);
};

// src/registry/catalogue.ts
import * as FileSystem from "@effect/platform/FileSystem";
import * as Path from "@effect/platform/Path";
import * as Effect2 from "effect/Effect";
import * as Either3 from "effect/Either";

// src/Server.ts
import * as Either2 from "effect/Either";
import * as Redacted from "effect/Redacted";
import * as Schema4 from "effect/Schema";
var Protocol = Schema4.Literal("ollama", "openai", "embedded");
var Location = Schema4.Struct({
  city: Schema4.optionalWith(Schema4.String, { exact: true }),
  country: Schema4.optionalWith(Schema4.String, { exact: true }),
  countryName: Schema4.optionalWith(Schema4.String, { exact: true }),
  continent: Schema4.optionalWith(Schema4.String, { exact: true }),
  latitude: Schema4.optionalWith(Schema4.Number.pipe(Schema4.between(-90, 90)), { exact: true }),
  longitude: Schema4.optionalWith(Schema4.Number.pipe(Schema4.between(-180, 180)), { exact: true })
});
var knownKeys = /* @__PURE__ */ new Set([
  "url",
  "protocol",
  "apiKey",
  "location",
  "organization",
  "weight",
  "priority",
  "maxInFlight"
]);
var decodeLocation = Schema4.decodeUnknownEither(Location, { onExcessProperty: "ignore" });
var normalizeUrl = (input) => {
  const trimmed = input.trim();
  if (trimmed === "") return Either2.left("an address is missing");
  const bare = !/^[a-z][a-z0-9+.-]*:\/\//i.test(trimmed);
  const withHost = bare && trimmed.startsWith(":") ? `127.0.0.1${trimmed}` : trimmed;
  let url;
  try {
    url = new URL(bare ? `http://${withHost}` : withHost);
  } catch {
    return Either2.left(`'${redactUserInfo(trimmed)}' is not an address such as http://gpu-1:11434`);
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    return Either2.left(`'${redactUserInfo(trimmed)}' must begin with http:// or https://`);
  }
  if (url.hostname === "0.0.0.0") url.hostname = "127.0.0.1";
  if (url.hostname === "[::]") url.hostname = "[::1]";
  if (bare && url.port === "" && !/:\d+(\/|$)/.test(withHost)) url.port = "11434";
  url.search = "";
  url.hash = "";
  return Either2.right(url);
};
var redactUserInfo = (address) => address.replace(/\/\/[^/@]*@/, "//\u2026@");
var toBase64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));
var positive = (value3) => typeof value3 === "number" && Number.isFinite(value3) && value3 > 0;
var fromOptions = (input, source) => {
  const fail2 = (field, reason) => Either2.left(new InvalidConfig({ source, field, reason }));
  if (typeof input !== "string" && (typeof input !== "object" || input === null)) {
    return fail2("servers", "a server is an address or an object with a url");
  }
  const options = typeof input === "string" ? { url: input } : input;
  for (const key of Object.keys(options)) {
    if (!knownKeys.has(key)) {
      return fail2(`servers.${key}`, `there is no such option; there are ${[...knownKeys].join(", ")}`);
    }
  }
  if (typeof options.url !== "string") return fail2("servers.url", "an address is missing");
  const parsed = normalizeUrl(options.url);
  if (Either2.isLeft(parsed)) return fail2("servers.url", parsed.left);
  const url = parsed.right;
  let authorization;
  if (url.username !== "" || url.password !== "") {
    const userInfo = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
    authorization = Redacted.make(`Basic ${toBase64(userInfo)}`);
    url.username = "";
    url.password = "";
  }
  const href = url.href.replace(/\/+$/, "");
  if (options.apiKey !== void 0) {
    const key = Redacted.isRedacted(options.apiKey) ? Redacted.value(options.apiKey) : options.apiKey;
    if (typeof key !== "string" || key === "" || /[^\x21-\x7e]/.test(key)) {
      return fail2("servers.apiKey", `the key of ${href} must be one word of printable characters`);
    }
    authorization = Redacted.make(`Bearer ${key}`);
  }
  const { location, maxInFlight, priority, protocol, weight } = options;
  if (protocol !== void 0 && protocol !== "ollama" && protocol !== "openai") {
    return fail2("servers.protocol", `'${String(protocol)}' of ${href} must be "ollama" or "openai"`);
  }
  if (weight !== void 0 && !positive(weight)) {
    return fail2("servers.weight", `the weight of ${href} must be a number above 0`);
  }
  if (priority !== void 0 && !Number.isInteger(priority)) {
    return fail2("servers.priority", `the priority of ${href} must be a whole number`);
  }
  if (maxInFlight !== void 0 && !(Number.isInteger(maxInFlight) && maxInFlight > 0)) {
    return fail2("servers.maxInFlight", `the limit of ${href} must be a whole number above 0`);
  }
  if (location !== void 0 && Either2.isLeft(decodeLocation(location))) {
    return fail2("servers.location", `the location of ${href} needs a latitude in -90\u202690 and a longitude in -180\u2026180`);
  }
  return Either2.right({
    url: href,
    protocol: protocol ?? (url.pathname.replace(/\/+$/, "").endsWith("/v1") ? "openai" : void 0),
    authorization,
    location,
    organization: options.organization,
    weight: weight ?? 1,
    priority: priority ?? 0,
    maxInFlight,
    implicit: false
  });
};
var embedded = {
  url: "embedded:",
  protocol: "embedded",
  authorization: void 0,
  location: void 0,
  organization: void 0,
  weight: 1,
  priority: 0,
  maxInFlight: void 0,
  implicit: false
};

// src/registry/catalogue.ts
var maxSpeed = 2e3;
var empty2 = { families: /* @__PURE__ */ new Set(), models: /* @__PURE__ */ new Map(), servers: /* @__PURE__ */ new Map(), warnings: [] };
var isRecord = (value3) => typeof value3 === "object" && value3 !== null && !Array.isArray(value3);
var isAbsent = (value3) => value3 === void 0 || value3 === null || value3 === "";
var toNumber = (value3) => {
  const number = typeof value3 === "string" && value3.trim() !== "" ? Number(value3) : value3;
  return typeof number === "number" && Number.isFinite(number) ? number : void 0;
};
var numberAt = (record, field, warn) => {
  const value3 = record[field];
  if (isAbsent(value3)) return void 0;
  const number = toNumber(value3);
  if (number === void 0) warn(field, `${show(value3)} is not a number`);
  return number;
};
var textAt = (record, ...fields) => {
  for (const field of fields) {
    const value3 = record[field];
    if (typeof value3 === "string" && value3.trim() !== "") return value3.trim();
  }
  return void 0;
};
var show = (value3) => {
  const text = JSON.stringify(value3) ?? String(value3);
  return text.length > 40 ? `${text.slice(0, 40)}\u2026` : text;
};
var decoded = [
  "model_name",
  "family",
  "parameter_size",
  "quantization_level",
  "capabilities",
  "size",
  "context_length",
  "generation"
];
var foreign = [
  "id",
  "digest",
  "details",
  "name",
  "model",
  "object",
  "url",
  "source_url",
  "server_url",
  "performance",
  "tokens_per_second",
  "last_tested",
  "status",
  "__proto__"
];
var left2 = /* @__PURE__ */ new Set([...decoded, ...foreign]);
var isPassed = (key) => !left2.has(key) && !key.startsWith("ip_") && !key.startsWith("perf_");
var nameOf = (record) => textAt(record, "model_name", "model", "name");
var toInfo = (record, family, warn) => {
  const name = nameOf(record);
  if (name === void 0) return void 0;
  const details = isRecord(record["details"]) ? record["details"] : {};
  const flat = { ...details, ...record };
  const info = {
    model_name: name,
    family: family ?? familyOf2(name, textAt(flat, "family"))
  };
  for (const key of ["size", "context_length"]) {
    const number = numberAt(flat, key, warn);
    if (number !== void 0 && number >= 0) info[key] = number;
  }
  const size = flat["parameter_size"];
  if (!isAbsent(size) && size !== "unknown") {
    if (typeof size !== "string" && typeof size !== "number" || parseParameters(size) === void 0) {
      warn("parameter_size", `${show(size)} is not a size such as 7B`);
    } else {
      info.parameter_size = String(size);
    }
  }
  const quantization = textAt(flat, "quantization_level");
  if (quantization !== void 0 && quantization !== "unknown") info.quantization_level = quantization;
  const capabilities = flat["capabilities"];
  if (!isAbsent(capabilities)) {
    if (Array.isArray(capabilities) && capabilities.every((item) => typeof item === "string")) {
      info.capabilities = capabilities;
    } else {
      warn("capabilities", "is not a list of words");
    }
  }
  for (const [key, value3] of Object.entries(flat)) {
    if (isPassed(key) && !isAbsent(value3)) info[key] = value3;
  }
  const generation2 = numberAt(flat, "generation", warn) ?? generation(name);
  if (generation2 !== void 0) info.generation = generation2;
  return info;
};
var familyOf2 = (name, reported) => {
  const family = familyOf(name);
  return family !== "others" || reported === void 0 ? family : familyOf(reported);
};
var performanceOf = (speed2, tested) => {
  const known = speed2 !== void 0 && speed2 > 0;
  if (!known && tested === void 0) return void 0;
  return {
    ...known ? { tokens_per_second: Math.min(speed2, maxSpeed) } : {},
    ...tested === void 0 ? {} : { last_tested: tested }
  };
};
var locationOf = (record, warn) => {
  const texts = {
    city: textAt(record, "ip_city", "ip_city_name", "ip_city_name_en", "city"),
    country: textAt(record, "ip_country_iso_code", "ip_country_iso", "country"),
    countryName: textAt(record, "ip_country_name", "ip_country_name_en", "countryName", "country_name"),
    continent: textAt(record, "ip_continent_name", "ip_continent_name_en", "ip_continent_code", "continent")
  };
  const degrees = (fields, most) => {
    const field = fields.find((name) => !isAbsent(record[name]));
    if (field === void 0) return void 0;
    const value3 = numberAt(record, field, warn);
    if (value3 === void 0 || Math.abs(value3) <= most) return value3;
    warn(field, `${value3} is not in -${most}\u2026${most}`);
    return void 0;
  };
  const location = {
    ...texts,
    latitude: degrees(["ip_latitude", "latitude"], 90),
    longitude: degrees(["ip_longitude", "longitude"], 180)
  };
  const known = Object.entries(location).filter(([, value3]) => value3 !== void 0);
  return known.length === 0 ? void 0 : Object.fromEntries(known);
};
var shapeOf = (json) => {
  if (Array.isArray(json)) return { models: json };
  if (!isRecord(json)) return void 0;
  if (Array.isArray(json["models"])) return { models: json["models"] };
  if (Array.isArray(json["servers"])) return { servers: json["servers"] };
  const props = json["props"];
  const page = isRecord(props) ? props["pageProps"] : void 0;
  const models2 = isRecord(page) ? page["models"] : void 0;
  return Array.isArray(models2) ? { models: models2 } : void 0;
};
var parse = (files, withServers) => {
  const families = /* @__PURE__ */ new Set();
  const models2 = /* @__PURE__ */ new Map();
  const servers = /* @__PURE__ */ new Map();
  const warnings = [];
  const warner = (file, record) => (field, reason) => {
    warnings.push(
      new RegistryWarning({
        file,
        ...record === void 0 ? {} : { record },
        ...field === void 0 ? {} : { field },
        reason
      })
    );
  };
  const addModel = (info) => {
    const key = canonical(info.model_name);
    if (!models2.has(key)) models2.set(key, info);
    return key;
  };
  const byAddress = /* @__PURE__ */ new Map();
  const serverAt = (file, address, record, location, warn) => {
    if (byAddress.has(address)) return byAddress.get(address);
    const protocol = record["protocol"];
    const spoken = protocol === "ollama" || protocol === "openai" ? protocol : void 0;
    if (!isAbsent(protocol) && spoken === void 0) {
      warn("protocol", `${show(protocol)} is neither "ollama" nor "openai"`);
    }
    const made = fromOptions(
      {
        url: address,
        protocol: spoken,
        location: locationOf(location, warn),
        organization: textAt(record, "organization", "ip_organization")
      },
      file.path
    );
    if (Either3.isLeft(made)) {
      warn(record["url"] === void 0 ? "ip_port" : "url", made.left.reason);
      byAddress.set(address, void 0);
      return void 0;
    }
    const server = made.right;
    const recorded = servers.get(server.url) ?? { server, models: /* @__PURE__ */ new Map() };
    servers.set(server.url, recorded);
    byAddress.set(address, recorded);
    return recorded;
  };
  const readModels = (file, records) => {
    for (let i = 0; i < records.length; i++) {
      const warn = warner(file.path, i);
      const record = records[i];
      if (!isRecord(record)) {
        warn(void 0, "is not an object");
        continue;
      }
      const info = toInfo(record, file.family, warn);
      if (info === void 0) {
        warn("model_name", "is missing");
        continue;
      }
      const key = addModel(info);
      if (!withServers || isAbsent(record["ip_port"])) continue;
      const address = record["ip_port"];
      if (typeof address !== "string") {
        warn("ip_port", `${show(address)} is not an address`);
        continue;
      }
      const found = serverAt(file, address, record, record, warn);
      if (found === void 0) continue;
      const speed2 = record["perf_status"] === "error" ? void 0 : performanceOf(numberAt(record, "perf_tokens_per_second", warn), textAt(record, "perf_last_tested"));
      if (found.models.get(key) === void 0) found.models.set(key, speed2);
    }
  };
  const readServers = (file, records) => {
    for (let i = 0; i < records.length; i++) {
      const warn = warner(file.path, i);
      const record = records[i];
      const address = isRecord(record) ? textAt(record, "url", "ip_port") : void 0;
      if (!isRecord(record) || address === void 0) {
        warn(isRecord(record) ? "url" : void 0, isRecord(record) ? "is missing" : "is not an object");
        continue;
      }
      const location = isRecord(record["location"]) ? { ...record, ...record["location"] } : record;
      const found = withServers ? serverAt(file, address, record, location, warn) : void 0;
      const list3 = record["models"];
      if (!isAbsent(list3) && !Array.isArray(list3)) warn("models", "is not a list");
      for (const item of Array.isArray(list3) ? list3 : []) {
        const model = typeof item === "string" ? { model_name: item } : isRecord(item) ? item : {};
        const info = toInfo(model, void 0, warn);
        if (info === void 0) {
          warn("models", `${show(item)} names no model`);
          continue;
        }
        const key = addModel(info);
        if (found === void 0) continue;
        const nested = isRecord(model["performance"]) ? model["performance"] : {};
        const measured = { ...nested, ...model };
        const failed = (measured["status"] ?? measured["perf_status"]) === "error";
        const speed2 = failed ? void 0 : performanceOf(
          numberAt(measured, "tokens_per_second", warn) ?? numberAt(measured, "perf_tokens_per_second", warn),
          textAt(measured, "last_tested", "perf_last_tested")
        );
        if (found.models.get(key) === void 0) found.models.set(key, speed2);
      }
    }
  };
  for (const file of files) {
    let json;
    try {
      json = JSON.parse(file.text.replace(/^\uFEFF/, ""));
    } catch (error) {
      warner(file.path, void 0)(void 0, `is not JSON: ${error instanceof Error ? error.message : String(error)}`);
      continue;
    }
    const shape = shapeOf(json);
    if (shape === void 0) {
      warner(file.path, void 0)(void 0, "holds no list of models or servers");
    } else if ("servers" in shape) {
      readServers(file, shape.servers);
    } else {
      families.add(file.family);
      readModels(file, shape.models);
    }
  }
  return { families, models: models2, servers, warnings };
};
var read = Effect2.fnUntraced(function* (folder, withServers) {
  const fs = yield* FileSystem.FileSystem;
  const path = yield* Path.Path;
  const unreadable = (file) => (error) => new RegistryWarning({ file, reason: `cannot be read: ${error.message}` });
  const listed = yield* Effect2.either(Effect2.mapError(fs.readDirectory(folder), unreadable(folder)));
  if (Either3.isLeft(listed)) return { ...empty2, warnings: [listed.left] };
  const names = listed.right.filter((name) => name.toLowerCase().endsWith(".json")).sort();
  const files = yield* Effect2.forEach(
    names,
    (name) => {
      const file = path.join(folder, name);
      return Effect2.either(
        Effect2.mapBoth(fs.readFileString(file), {
          onFailure: unreadable(file),
          onSuccess: (text) => ({ path: file, family: name.slice(0, -5).toLowerCase(), text })
        })
      );
    },
    { concurrency: 8 }
  );
  const parsed = parse(
    files.flatMap((file) => Either3.isRight(file) ? [file.right] : []),
    withServers
  );
  return {
    ...parsed,
    warnings: [...files.flatMap((file) => Either3.isLeft(file) ? [file.left] : []), ...parsed.warnings]
  };
});
var merge = (catalogues) => {
  const families = /* @__PURE__ */ new Set();
  const models2 = /* @__PURE__ */ new Map();
  const servers = /* @__PURE__ */ new Map();
  const warnings = [];
  for (const catalogue of catalogues) {
    for (const family of catalogue.families) families.add(family);
    for (const [key, info] of catalogue.models) {
      const known = models2.get(key);
      models2.set(key, known === void 0 ? info : { ...info, ...known });
    }
    for (const [url, recorded] of catalogue.servers) {
      const known = servers.get(url);
      servers.set(
        url,
        known === void 0 ? recorded : { server: known.server, models: new Map([...recorded.models, ...known.models]) }
      );
    }
    warnings.push(...catalogue.warnings);
  }
  return { families, models: models2, servers, warnings };
};

// src/registry/lists.ts
import * as Cause from "effect/Cause";
import * as Clock from "effect/Clock";
import * as Deferred from "effect/Deferred";
import * as Duration from "effect/Duration";
import * as Effect4 from "effect/Effect";
import * as Exit from "effect/Exit";
import * as FiberId from "effect/FiberId";

// src/registry/discovery.ts
import * as HttpClientRequest from "@effect/platform/HttpClientRequest";
import * as Data from "effect/Data";
import * as Effect3 from "effect/Effect";
import * as Either4 from "effect/Either";
import * as Redacted2 from "effect/Redacted";
var ListingFailed = class extends Data.TaggedError("ListingFailed") {
};
var timeout = 5e3;
var isRecord2 = (value3) => typeof value3 === "object" && value3 !== null && !Array.isArray(value3);
var quiet = () => {
};
var listing = (protocol, list3, nameKey) => {
  if (!Array.isArray(list3)) return void 0;
  const models2 = /* @__PURE__ */ new Map();
  for (const item of list3) {
    if (!isRecord2(item)) continue;
    const info = toInfo(nameKey === "id" ? { ...item, model_name: item["id"] } : item, void 0, quiet);
    if (info !== void 0) models2.set(canonical(info.model_name), info);
  }
  return list3.length > 0 && models2.size === 0 ? void 0 : { protocol, models: models2 };
};
var readTags = (body) => {
  if (!isRecord2(body)) return void 0;
  if (body["object"] === "list" && Array.isArray(body["data"])) return readOpenAi(body);
  return "models" in body ? listing("ollama", body["models"] ?? [], "name") : void 0;
};
var readOpenAi = (body) => {
  if (Array.isArray(body)) return listing("openai", body, "id");
  if (!isRecord2(body)) return void 0;
  return listing("openai", body["data"] ?? (body["object"] === "list" ? [] : void 0), "id");
};
var codes = {
  ECONNREFUSED: "refused the connection",
  ENOTFOUND: "has an address that does not resolve",
  EAI_AGAIN: "has an address that does not resolve",
  ECONNRESET: "reset the connection",
  UND_ERR_SOCKET: "closed the connection",
  EHOSTUNREACH: "cannot be reached",
  ENETUNREACH: "cannot be reached",
  ETIMEDOUT: "did not accept the connection in time",
  UND_ERR_CONNECT_TIMEOUT: "did not accept the connection in time"
};
var transportReason = (error) => {
  let cause = error;
  for (let depth = 0; depth < 5 && isRecord2(cause); depth++) {
    const code = cause["code"];
    if (typeof code === "string") return codes[code] ?? `could not be asked (${code})`;
    cause = cause["cause"];
  }
  return "could not be asked (the connection failed)";
};
var statusReason = (status) => status === 401 || status === 403 ? `answered HTTP ${status}: its key is missing or wrong` : `answered HTTP ${status} when asked for its models`;
var get2 = Effect3.fnUntraced(function* (client, server, path, read2) {
  const request = HttpClientRequest.get(server.url + path, {
    headers: {
      accept: "application/json",
      ...server.authorization === void 0 ? {} : { authorization: Redacted2.value(server.authorization) }
    }
  });
  const [status, text] = yield* client.execute(request).pipe(
    Effect3.flatMap((response) => Effect3.map(response.text, (text2) => [response.status, text2])),
    Effect3.mapError(
      (error) => new ListingFailed({ reason: transportReason(error), answered: error._tag === "ResponseError" })
    )
  );
  if (status !== 200) return yield* new ListingFailed({ reason: statusReason(status), answered: true });
  const found = Either4.getOrUndefined(Either4.try(() => read2(JSON.parse(text))));
  if (found === void 0) {
    return yield* new ListingFailed({
      reason: `answered ${path} with something else than a list of models`,
      answered: true
    });
  }
  return found;
});
var list = (client, server) => {
  const ollama = get2(client, server, "/api/tags", readTags);
  const openai = get2(client, server, server.url.endsWith("/v1") ? "/models" : "/v1/models", readOpenAi);
  const asked = server.protocol === "ollama" ? ollama : server.protocol === "openai" ? openai : Effect3.catchAll(
    ollama,
    (first) => first.answered ? Effect3.mapError(
      openai,
      (second) => new ListingFailed({
        reason: first.reason === second.reason ? first.reason : `${first.reason}, and then ${second.reason}`,
        answered: second.answered
      })
    ) : Effect3.fail(first)
  );
  return Effect3.timeoutFail(asked, {
    duration: timeout,
    onTimeout: () => new ListingFailed({ reason: `did not say within ${timeout / 1e3} s which models it has`, answered: false })
  });
};

// src/registry/lists.ts
var concurrency = 32;
var retryAfter = 5e3;
var missInterval = 1e3;
var grace = 250;
var makeEntry = (source) => ({
  ...source,
  figures: new Map(source.figures),
  protocol: source.server.protocol,
  models: /* @__PURE__ */ new Map(),
  problem: void 0,
  askedAt: Number.NEGATIVE_INFINITY,
  readAt: Number.NEGATIVE_INFINITY,
  failedAt: Number.NEGATIVE_INFINITY,
  stale: false,
  running: false
});
var describe = (cause) => {
  if (Cause.isInterruptedOnly(cause)) return "was not asked to the end";
  const error = Cause.squash(cause);
  return error instanceof ListingFailed ? error.reason : `could not be asked (${String(error)})`;
};
var toKnown = (entry) => ({
  server: entry.server,
  protocol: entry.protocol,
  models: entry.models,
  read: entry.readAt > Number.NEGATIVE_INFINITY,
  problem: entry.problem
});
var make4 = Effect4.fnUntraced(function* (client, sources, ttl, answered) {
  const scope2 = yield* Effect4.scope;
  const permits = yield* Effect4.makeSemaphore(concurrency);
  let entries;
  let settledUntil = Number.NEGATIVE_INFINITY;
  const located = /* @__PURE__ */ new Map();
  let changed = Deferred.unsafeMake(FiberId.none);
  const isFresh = (entry, now) => entry.problem === void 0 && now - entry.readAt < ttl;
  const isDue = (entry, now) => !entry.running && (entry.problem === void 0 ? entry.stale || !isFresh(entry, now) : now - entry.failedAt >= retryAfter);
  const settledEntry = (entry) => {
    if (entry.problem !== void 0) return entry.running ? Number.POSITIVE_INFINITY : entry.failedAt + retryAfter;
    return entry.stale && !entry.running ? Number.NEGATIVE_INFINITY : entry.readAt + ttl;
  };
  const update = () => {
    located.clear();
    settledUntil = Number.POSITIVE_INFINITY;
    for (const entry of entries ?? []) settledUntil = Math.min(settledUntil, settledEntry(entry));
  };
  const load = Effect4.map(sources, (found) => {
    const before = new Map(entries?.map((entry) => [entry.server.url, entry]));
    entries = found.map((source) => {
      const entry = before.get(source.server.url);
      return entry === void 0 ? makeEntry(source) : Object.assign(entry, source, { figures: new Map(source.figures) });
    });
    update();
    return entries;
  });
  const loaded = Effect4.suspend(() => entries === void 0 ? load : Effect4.succeed(entries));
  const settle = (entry, exit2, now) => {
    entry.running = false;
    if (Exit.isSuccess(exit2)) {
      entry.protocol = entry.server.protocol ?? exit2.value.protocol;
      entry.models = new Map(exit2.value.models);
      entry.problem = void 0;
      entry.stale = false;
      entry.readAt = now;
    } else {
      entry.problem = describe(exit2.cause);
      entry.failedAt = now;
    }
    update();
    const done = changed;
    changed = Deferred.unsafeMake(FiberId.none);
    Deferred.unsafeDone(done, Exit.void);
  };
  const start = (entry) => Effect4.clockWith((clock3) => {
    if (entry.running) return Effect4.void;
    entry.running = true;
    entry.askedAt = clock3.unsafeCurrentTimeMillis();
    return Effect4.timed(list(client, entry.server)).pipe(
      Effect4.map(([took, listing2]) => {
        answered(entry.server.url, Duration.toMillis(took));
        return listing2;
      }),
      permits.withPermits(1),
      Effect4.interruptible,
      Effect4.exit,
      Effect4.map((exit2) => settle(entry, exit2, clock3.unsafeCurrentTimeMillis())),
      Effect4.forkIn(scope2)
    );
  });
  const startAll = (list3) => list3.length === 0 ? Effect4.void : Effect4.uninterruptible(Effect4.forEach(list3, start, { discard: true }));
  const awaitChange = (left4, now) => {
    const until = left4.reduce((most, entry) => Math.max(most, entry.askedAt + grace), 0);
    return until <= now ? Effect4.succeed(false) : Effect4.as(Effect4.timeoutOption(Deferred.await(changed), until - now), true);
  };
  const awaitAll = Effect4.fnUntraced(function* (asked, patient, key) {
    while (true) {
      const now = yield* Clock.currentTimeMillis;
      const left4 = asked.filter((entry) => entry.running);
      if (left4.length === 0) return;
      const found = key !== void 0 && hostsOf(key, now).length > 0;
      if (!found && (patient || left4.some((entry) => entry.problem === void 0))) {
        yield* Deferred.await(changed);
      } else if (!(yield* awaitChange(left4, now))) {
        return;
      }
    }
  });
  const host = (entry, key, model, certain) => ({
    server: entry.server,
    protocol: entry.protocol ?? "ollama",
    model: entry.models.get(key)?.model_name ?? model,
    certain,
    performance: entry.figures.get(key)
  });
  const hostsOf = (key, now) => {
    const certain = [];
    const doubtful = [];
    for (const entry of entries ?? []) {
      if (!entry.models.has(key)) continue;
      if (isFresh(entry, now)) certain.push(host(entry, key, key, true));
      else if (!entry.server.implicit) doubtful.push(host(entry, key, key, false));
    }
    return certain.length === 0 ? certain : [...certain, ...doubtful];
  };
  const silent = (key, model, now) => {
    const said = [];
    const others = [];
    for (const entry of entries ?? []) {
      if (isFresh(entry, now) || entry.server.implicit) continue;
      if (entry.models.has(key) || entry.figures.has(key)) said.push(host(entry, key, model, false));
      else if (entry.own) others.push(host(entry, key, model, false));
    }
    return [...said, ...others];
  };
  const search = Effect4.fnUntraced(function* (key, model) {
    const all2 = yield* loaded;
    const now = yield* Clock.currentTimeMillis;
    if (hostsOf(key, now).length > 0) {
      yield* startAll(all2.filter((entry) => isDue(entry, now)));
      yield* awaitAll(
        all2.filter((entry) => entry.running && entry.problem === void 0 && !entry.stale),
        false,
        key
      );
    } else {
      yield* startAll(all2.filter((entry) => entry.stale || now - entry.askedAt >= missInterval));
      yield* awaitAll(
        all2.filter((entry) => entry.running),
        false,
        key
      );
    }
    const end = yield* Clock.currentTimeMillis;
    const found = hostsOf(key, end);
    return found.length > 0 ? found : silent(key, model, end);
  });
  const locate = (model) => Effect4.clockWith((clock3) => {
    const key = canonical(model);
    const now = clock3.unsafeCurrentTimeMillis();
    if (now < settledUntil) {
      const known2 = located.get(key);
      if (known2 !== void 0) return Effect4.succeed(known2);
      const found = hostsOf(key, now);
      if (found.length > 0) {
        located.set(key, found);
        return Effect4.succeed(found);
      }
    }
    return search(key, model);
  });
  const known = Effect4.fnUntraced(function* (patient) {
    const all2 = yield* loaded;
    const now = yield* Clock.currentTimeMillis;
    yield* startAll(all2.filter((entry) => isDue(entry, now)));
    yield* awaitAll(
      all2.filter((entry) => entry.running),
      patient,
      void 0
    );
    return all2.map(toKnown);
  });
  const claims = Effect4.fnUntraced(function* (model) {
    yield* loaded;
    const now = yield* Clock.currentTimeMillis;
    const key = canonical(model);
    const certain = hostsOf(key, now).filter((found) => found.certain);
    const said = silent(key, model, now).filter((found) => {
      const entry = entries?.find((one) => one.server.url === found.server.url);
      return entry !== void 0 && (entry.models.has(key) || entry.figures.has(key));
    });
    return [...certain, ...said];
  });
  const markAbsent = (model, url) => Effect4.sync(() => {
    const entry = entries?.find((one) => one.server.url === url);
    if (entry === void 0) return;
    const key = canonical(model);
    entry.models.delete(key);
    entry.figures.delete(key);
    entry.stale = true;
    update();
  });
  const refresh = Effect4.gen(function* () {
    const all2 = yield* load;
    yield* startAll(all2);
    yield* awaitAll(all2, true, void 0);
  });
  const lists = {
    locate,
    claims,
    known,
    now: Effect4.map(loaded, (all2) => all2.map(toKnown)),
    markAbsent,
    refresh
  };
  return lists;
});

// src/Registry.ts
var Registry = class extends Context3.Tag("aicortex/Registry")() {
};
var CatalogueLocation = class extends Context3.Tag("aicortex/Registry/CatalogueLocation")() {
};
var toRow = (key, info) => ({
  key,
  name: info.model_name,
  family: info.family,
  generation: info.generation,
  parameters: (info.parameter_size === void 0 ? void 0 : parseParameters(info.parameter_size)) ?? sizeOfName(info.model_name)
});
var byName = (a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
var bySize = (a, b) => (b.parameters ?? -1) - (a.parameters ?? -1) || byName(a, b);
var demoKey = canonical(demoModel);
var demoHosts = [
  { server: embedded, protocol: "embedded", model: demoModel, certain: true, performance: void 0 }
];
var demoCatalogue = {
  ...empty2,
  families: /* @__PURE__ */ new Set([demoInfo.family]),
  models: /* @__PURE__ */ new Map([[demoKey, demoInfo]])
};
var parameters = (field, size) => {
  if (size === void 0) return Either5.right(void 0);
  const count = parseParameters(size);
  return count === void 0 ? Either5.left(new InvalidRequest({ field, reason: `'${size}' is not a size such as 7b, 500m, 8x7b or 1t` })) : Either5.right(count);
};
var embeds = (info) => info.capabilities === void 0 ? /embed|minilm|bge-/.test(info.model_name) : !info.capabilities.includes("completion") && info.capabilities.includes("embedding");
var preferred = (all2, condition) => {
  const some = all2.filter(condition);
  return some.length === 0 ? all2 : some;
};
var isThere = (known) => !known.server.implicit || known.read && known.problem === void 0;
var answers = (known) => known.read && known.problem === void 0;
var baseUrl = (host) => host.protocol === "openai" && !host.server.url.endsWith("/v1") ? `${host.server.url}/v1` : host.server.url;
var make6 = Effect5.gen(function* () {
  const settings = yield* CurrentSettings;
  const fleet = yield* Fleet;
  const location = yield* CatalogueLocation;
  const fs = yield* FileSystem3.FileSystem;
  const path = yield* Path3.Path;
  const client = HttpClient.withTracerDisabledWhen(yield* HttpClient.HttpClient, () => true);
  const files = Context3.make(FileSystem3.FileSystem, fs).pipe(Context3.add(Path3.Path, path));
  const read2 = (folder, withServers) => Effect5.uninterruptible(Effect5.provide(read(folder, withServers), files));
  const builtIn = yield* Effect5.cached(read2(location, false));
  const [own, forgetOwn] = yield* Effect5.cachedInvalidateWithTTL(
    Effect5.map(
      Effect5.forEach(settings.registry, (folder) => read2(folder, true)),
      merge
    ),
    Duration2.infinity
  );
  let merged;
  const whole = Effect5.map(Effect5.all([own, builtIn]), ([mine, shipped]) => {
    if (merged?.own === mine) return merged;
    const catalogue = merge([demoCatalogue, mine, shipped]);
    const rows = [...catalogue.models].map(([key, info]) => toRow(key, info)).sort(byName);
    merged = { own: mine, catalogue, rows };
    return merged;
  });
  const sources = Effect5.map(own, (mine) => {
    const all2 = /* @__PURE__ */ new Map();
    for (const server of settings.servers) {
      const recorded = mine.servers.get(server.url);
      if (all2.has(server.url)) continue;
      all2.set(server.url, {
        server: recorded === void 0 ? server : {
          ...server,
          protocol: server.protocol ?? recorded.server.protocol,
          location: server.location ?? recorded.server.location,
          organization: server.organization ?? recorded.server.organization
        },
        own: true,
        figures: recorded?.models ?? /* @__PURE__ */ new Map()
      });
    }
    for (const [url, recorded] of mine.servers) {
      if (!all2.has(url)) all2.set(url, { server: recorded.server, own: false, figures: recorded.models });
    }
    return [...all2.values()];
  });
  const lists = yield* make4(client, sources, settings.discoveryTtl, fleet.roundTrip);
  const missing = Effect5.fnUntraced(function* (model) {
    const { catalogue, rows } = yield* whole;
    const key = canonical(model);
    const there = (yield* lists.now).filter(isThere);
    const hosted2 = /* @__PURE__ */ new Map();
    for (const known of there.filter(answers)) {
      for (const [name, info] of known.models) hosted2.set(name, info.model_name);
    }
    if (catalogue.models.has(key) || hosted2.has(key)) {
      return yield* new NoServers({
        model,
        servers: there.map((known) => known.server.url),
        available: [...hosted2.values()].sort().slice(0, 20)
      });
    }
    const names = [...hosted2.values(), ...rows.map((row) => row.name)];
    return yield* new ModelNotFound({ model, suggestions: nearest(model, names) });
  });
  const locate = (model) => canonical(model) === demoKey ? Effect5.succeed(demoHosts) : Effect5.flatMap(lists.locate(model), (hosts) => hosts.length === 0 ? missing(model) : Effect5.succeed(hosts));
  const toServerInfo = (host) => {
    const live = fleet.snapshot(host.server.url, host.model).tokensPerSecond;
    return {
      url: host.server.url,
      protocol: host.certain ? host.protocol : host.server.protocol,
      location: host.server.location ?? {},
      organization: host.server.organization,
      tokens_per_second: live ?? host.performance?.tokens_per_second,
      performance: live === void 0 ? host.performance ?? {} : { tokens_per_second: live }
    };
  };
  const hostsToShow = Effect5.fnUntraced(function* (model) {
    if (canonical(model) === demoKey) return demoHosts;
    yield* lists.known(false);
    return yield* lists.claims(model);
  });
  const listModelServers = (model) => Effect5.map(hostsToShow(model), (hosts) => hosts.map(toServerInfo));
  const serverInfo = Effect5.fnUntraced(function* (model, url) {
    const infos = yield* listModelServers(model);
    const first = infos[0];
    if (first === void 0) return yield* missing(model);
    if (url === void 0) return first;
    const wanted = Either5.match(normalizeUrl(url), {
      onLeft: () => url,
      onRight: (normal2) => normal2.href.replace(/\/+$/, "")
    });
    const found = infos.find((info) => info.url === wanted || info.url === url);
    if (found !== void 0) return found;
    const there = (yield* lists.now).find((known) => known.server.url === wanted);
    const available = there === void 0 ? [] : [...there.models.values()].map((info) => info.model_name).sort();
    return yield* new NoServers({ model, servers: [wanted], available: available.slice(0, 20) });
  });
  const hosted = Effect5.map(lists.known(false), (all2) => {
    const models3 = /* @__PURE__ */ new Map();
    for (const known of all2.filter(answers)) {
      for (const [key, info] of known.models) if (!models3.has(key)) models3.set(key, info);
    }
    return models3;
  });
  const rowsOf = Effect5.fnUntraced(function* (options) {
    const { catalogue, rows } = yield* whole;
    const servers = yield* hosted;
    const found = options.available === true ? rows.filter((row) => servers.has(row.key)) : rows;
    const extra = [];
    for (const [key, info] of servers) if (!catalogue.models.has(key)) extra.push(toRow(key, info));
    const all2 = extra.length === 0 ? found : [...found, ...extra].sort(byName);
    const family = options.family?.trim().toLowerCase();
    return family === void 0 ? all2 : all2.filter((row) => row.family === family);
  });
  const models2 = (options = {}) => Effect5.map(rowsOf(options), (rows) => rows.map((row) => row.name));
  const modelInfo = Effect5.fnUntraced(function* (model) {
    const key = canonical(model);
    const { catalogue, rows } = yield* whole;
    const recorded = catalogue.models.get(key);
    if (recorded !== void 0) return recorded;
    const servers = yield* hosted;
    const info = servers.get(key);
    if (info !== void 0) return info;
    const names = [...servers.values()].map((other) => other.model_name).concat(rows.map((row) => row.name));
    return yield* new ModelNotFound({ model, suggestions: nearest(model, names) });
  });
  const searchModels = Effect5.fnUntraced(function* (query, options = {}) {
    const min = yield* parameters("minParams", options.minParams);
    const max2 = yield* parameters("maxParams", options.maxParams);
    const { generation: generation2 } = options;
    if (generation2 !== void 0 && !(Number.isInteger(generation2) && generation2 > 0)) {
      return yield* new InvalidRequest({ field: "generation", reason: `${generation2} is not a whole number from 1` });
    }
    const text = query.trim().toLowerCase();
    const rows = yield* rowsOf(options);
    return rows.filter(
      (row) => row.name.toLowerCase().includes(text) && (generation2 === void 0 || row.generation === generation2) && (min === void 0 || row.parameters !== void 0 && row.parameters >= min) && (max2 === void 0 || row.parameters !== void 0 && row.parameters <= max2)
    ).sort(bySize).map((row) => row.name);
  });
  const choose = Effect5.fnUntraced(function* (hosts) {
    if (hosts.length === 0) return void 0;
    const rested = preferred(hosts, (host2) => fleet.snapshot(host2.server.url, host2.model).breaker !== "open");
    const host = rested[yield* Random.nextIntBetween(0, rested.length)];
    return host === void 0 ? void 0 : { model: host.model, base_url: baseUrl(host), baseUrl: baseUrl(host) };
  });
  const llmParams = Effect5.fnUntraced(function* (model = settings.model) {
    const hosts = yield* locate(model);
    const chosen = yield* choose(
      preferred(
        hosts.filter((host) => host.protocol !== "embedded"),
        (host) => host.certain
      )
    );
    return chosen ?? (yield* missing(model));
  });
  const randomLlmParams = Effect5.gen(function* () {
    const there = (yield* lists.known(false)).filter(isThere);
    const hosts = [];
    const talkers = [];
    for (const known of there.filter(answers)) {
      for (const info of known.models.values()) {
        const host = {
          server: known.server,
          protocol: known.protocol ?? "ollama",
          model: info.model_name,
          certain: true,
          performance: void 0
        };
        hosts.push(host);
        if (!embeds(info)) talkers.push(host);
      }
    }
    const chosen = yield* choose(talkers.length === 0 ? hosts : talkers);
    if (chosen !== void 0) return chosen;
    return yield* new NoServers({
      model: settings.model,
      servers: there.map((known) => known.server.url),
      available: []
    });
  });
  return Registry.of({
    families: Effect5.map(whole, ({ catalogue }) => [...catalogue.families].sort()),
    models: models2,
    modelInfo,
    searchModels,
    servers: Effect5.map(
      lists.known(true),
      (all2) => all2.filter(isThere).map((known) => ({
        url: known.server.url,
        protocol: known.protocol,
        reachable: answers(known),
        problem: known.problem,
        models: answers(known) ? [...known.models.values()].map((info) => info.model_name).sort() : []
      }))
    ),
    listModelServers,
    serverInfo,
    llmParams,
    randomLlmParams,
    locate,
    missing,
    markAbsent: lists.markAbsent,
    refresh: Effect5.zipRight(forgetOwn, lists.refresh),
    warnings: Effect5.map(whole, ({ catalogue }) => catalogue.warnings)
  });
});
var layer2 = Layer3.scoped(Registry, make6);

// src/Router.ts
var speed = (candidate) => {
  const value3 = candidate.snapshot.tokensPerSecond ?? candidate.host.performance?.tokens_per_second;
  return value3 === void 0 || !(value3 > 0) ? void 0 : Math.min(value3, maxBelievableSpeed);
};
var radians = (degrees) => degrees * Math.PI / 180;
var distance2 = (a, b) => {
  if (a?.latitude === void 0 || a.longitude === void 0) return void 0;
  if (b?.latitude === void 0 || b.longitude === void 0) return void 0;
  const dLat = radians(b.latitude - a.latitude);
  const dLon = radians(b.longitude - a.longitude);
  const h = Math.sin(dLat / 2) ** 2 + Math.cos(radians(a.latitude)) * Math.cos(radians(b.latitude)) * Math.sin(dLon / 2) ** 2;
  return 2 * 6371 * Math.asin(Math.min(1, Math.sqrt(h)));
};
var kilometresPerMillisecond = 100;
var remoteness = (candidate, location) => {
  const kilometres = distance2(location, candidate.host.server.location);
  return kilometres === void 0 ? candidate.snapshot.roundTrip : kilometres / kilometresPerMillisecond;
};
var max = (values) => {
  let result = 0;
  for (const value3 of values) if (value3 !== void 0 && value3 > result) result = value3;
  return result;
};
var randomScore = (candidates, { random: random3 }) => {
  let sum = 0;
  let known = 0;
  for (const { snapshot } of candidates) {
    if (snapshot.proven && snapshot.tokensPerSecond !== void 0) {
      sum += snapshot.tokensPerSecond;
      known++;
    }
  }
  const mean = sum / known;
  return ({ host, snapshot }) => {
    const relative = snapshot.proven && snapshot.tokensPerSecond !== void 0 && mean > 0 ? snapshot.tokensPerSecond / mean : 1;
    const weight = host.server.weight * Math.min(4, Math.max(0.25, relative));
    return -Math.log(1 - random3()) / weight;
  };
};
var fastestScore = (candidate) => -(speed(candidate) ?? 0);
var nearestScore = ({ location }) => (candidate) => remoteness(candidate, location) ?? Number.POSITIVE_INFINITY;
var balancedScore = (candidates, { location }) => {
  const fastest = max(candidates.map(speed));
  const farthest = max(candidates.map((candidate) => remoteness(candidate, location)));
  return (candidate) => {
    const far = remoteness(candidate, location);
    const fast = fastest === 0 ? 0 : (speed(candidate) ?? 0) / fastest;
    const near = far === void 0 ? 0 : farthest === 0 ? 1 : 1 - far / farthest;
    return -(0.6 * fast + 0.4 * near);
  };
};
var score = (strategy, candidates, circumstances) => {
  switch (strategy) {
    case "random":
      return randomScore(candidates, circumstances);
    case "fastest":
      return fastestScore;
    case "nearest":
      return nearestScore(circumstances);
    case "balanced":
      return balancedScore(candidates, circumstances);
  }
};
var resting = ({ host, snapshot }) => snapshot.breaker === "open" || snapshot.breaker === "half-open" && snapshot.probing || host.server.maxInFlight !== void 0 && snapshot.inFlight >= host.server.maxInFlight;
var order = (strategy, candidates, circumstances) => {
  if (candidates.length < 2) return candidates;
  const scoreOf = score(strategy, candidates, circumstances);
  const ranked = candidates.map((candidate) => ({
    candidate,
    rests: resting(candidate),
    score: scoreOf(candidate),
    chance: circumstances.random()
  }));
  ranked.sort((a, b) => {
    const x = a.candidate;
    const y = b.candidate;
    if (a.rests !== b.rests) return a.rests ? 1 : -1;
    if (a.rests && x.snapshot.restsUntil !== y.snapshot.restsUntil) return x.snapshot.restsUntil - y.snapshot.restsUntil;
    if (x.host.server.priority !== y.host.server.priority) return x.host.server.priority - y.host.server.priority;
    if (x.host.certain !== y.host.certain) return x.host.certain ? -1 : 1;
    if (a.score !== b.score) return a.score - b.score;
    if (x.snapshot.inFlight !== y.snapshot.inFlight) return x.snapshot.inFlight - y.snapshot.inFlight;
    return a.chance - b.chance;
  });
  return ranked.map((entry) => entry.candidate);
};
var Router = class extends Context4.Tag("aicortex/Router")() {
};
var make7 = Effect6.gen(function* () {
  const registry = yield* Registry;
  const fleet = yield* Fleet;
  const settings = yield* CurrentSettings;
  const clock3 = yield* Effect6.clock;
  const random3 = yield* Effect6.random;
  const best = /* @__PURE__ */ new Map();
  const candidates = (model) => Effect6.map(
    registry.locate(model),
    (hosts) => hosts.map((host) => ({ host, snapshot: fleet.snapshot(host.server.url, host.model) }))
  );
  const ordered = (model, strategy) => Effect6.flatMap(
    candidates(model),
    (found) => found.length < 2 ? Effect6.succeed(found) : Effect6.map(
      random3.nextIntBetween(0, 2147483647),
      (seed) => order(strategy, found, { location: settings.location, random: make2(seed) })
    )
  );
  return Router.of({
    order: ordered,
    best: Effect6.fnUntraced(function* (model, strategy) {
      const key = `${strategy} ${model}`;
      const known = best.get(key);
      if (known !== void 0 && known.until > clock3.unsafeCurrentTimeMillis()) {
        const host = (yield* registry.locate(model)).find((host2) => host2.server.url === known.url);
        if (host !== void 0 && fleet.snapshot(host.server.url, host.model).breaker === "closed") {
          return yield* registry.serverInfo(model, known.url);
        }
      }
      const [first] = yield* ordered(model, strategy);
      if (first === void 0) return yield* registry.missing(model);
      const url = first.host.server.url;
      best.set(key, { url, until: clock3.unsafeCurrentTimeMillis() + settings.bestServerTtl });
      return yield* registry.serverInfo(model, url);
    }),
    clear: Effect6.zipRight(
      fleet.clear,
      Effect6.sync(() => best.clear())
    )
  });
});
var layer3 = Layer4.effect(Router, make7);

// bench/simulation/world.ts
var models = [
  { name: "3b", gigabytes: 2.5, cost: 0.45, popularity: 0.34 },
  { name: "8b", gigabytes: 5.5, cost: 1, popularity: 0.38 },
  { name: "14b", gigabytes: 10, cost: 1.8, popularity: 0.18 },
  { name: "32b", gigabytes: 21, cost: 3.8, popularity: 0.08 },
  { name: "70b", gigabytes: 42, cost: 8, popularity: 0.02 }
];
var machines = [
  { share: 0.15, decode: 90, prefill: 3600, memory: 48, disk: 2.4, parallel: 4 },
  { share: 0.3, decode: 105, prefill: 4200, memory: 24, disk: 1.6, parallel: 4 },
  { share: 0.2, decode: 48, prefill: 1600, memory: 16, disk: 1, parallel: 2 },
  { share: 0.2, decode: 40, prefill: 1200, memory: 12, disk: 0.8, parallel: 2 },
  { share: 0.15, decode: 20, prefill: 450, memory: 8, disk: 0.5, parallel: 1 }
];
var crowding = 0.4;
var loadTime = (server, model) => Math.min(30, Math.max(10, 7 + model.gigabytes / server.disk));
var footprint = (model) => model.gigabytes * 1.1;
var requestsFor = (servers) => servers <= 10 ? 3e3 : servers <= 100 ? 8e3 : servers <= 1e3 ? 4e4 : 15e4;
var exponential = (random3, mean) => -Math.log(1 - random3()) * mean;
var normal = (random3) => Math.sqrt(-2 * Math.log(1 - random3())) * Math.cos(2 * Math.PI * random3());
var lengths = (random3, middle, spread2, least, most) => Math.round(Math.min(most, Math.max(least, middle * Math.exp(spread2 * normal(random3)))));
var shuffled = (values, random3) => {
  const out = [...values];
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(random3() * (i + 1));
    const held = out[i];
    out[i] = out[j];
    out[j] = held;
  }
  return out;
};
var makeServers = (count, scenario, random3) => {
  const order2 = [];
  let sum = 0;
  for (const machine of machines) {
    sum += machine.share;
    while (order2.length < Math.round(sum * count)) order2.push(machine);
  }
  return shuffled(order2, random3).map((machine) => {
    const speed2 = 0.75 + 0.5 * random3();
    const memory = machine.memory * (machine.memory <= 8 ? 1 : scenario.memory);
    const present = models.flatMap(
      (model, index) => (scenario.only ?? index) === index && footprint(model) <= memory && random3() < scenario.placement ? [index] : []
    );
    if (present.length === 0) present.push(scenario.only ?? (random3() < 0.5 ? 0 : 1));
    const loaded = [];
    let free = memory;
    if (scenario.warm) {
      for (const index of shuffled(present, random3)) {
        const size = footprint(models[index]);
        if (size <= free) {
          free -= size;
          loaded.push(index);
        }
      }
    }
    return {
      decode: machine.decode * speed2,
      prefill: machine.prefill * speed2,
      memory,
      disk: machine.disk * (0.75 + 0.5 * random3()),
      parallel: scenario.parallel ?? machine.parallel,
      roundTrip: 2e-3 + exponential(random3, 0.01),
      models: present,
      loaded
    };
  });
};
var capacity = (servers) => {
  let sum = 0;
  for (const server of servers) {
    const together = server.parallel / (1 + crowding * (server.parallel - 1));
    sum += server.decode * together / 220;
  }
  return sum;
};
var makeJobs = (servers, hosts, requests, scenario, random3) => {
  const total = capacity(servers);
  const weights = models.map((model, index) => {
    const own = capacity([...hosts[index]].map((server) => servers[server]));
    return Math.min(model.popularity, 0.3 * own / total / model.cost);
  });
  const mean = models.reduce((a, model, index) => a + model.cost * weights[index], 0);
  const asked = weights.reduce((a, b) => a + b, 0);
  const rate = scenario.load * total * asked / mean;
  const burst = scenario.bursts;
  const calm = burst === void 0 ? 1 : 1 / (1 + (burst.times - 1) * burst.length / burst.every);
  const turns = scenario.turns;
  const draw = (shift) => {
    let left4 = random3() * asked;
    for (let i = 0; i < weights.length; i++) {
      left4 -= weights[i];
      if (left4 < 0) return shift === 0 ? i : [1, 2, 0, 3, 4][i];
    }
    return 0;
  };
  const jobs = [];
  const duration = requests / rate;
  const peak = burst === void 0 ? rate : rate * calm * burst.times;
  const conversations = turns === void 0 ? 1 : 1 / turns;
  let time = 0;
  let session = 0;
  while (jobs.length < requests) {
    time += exponential(random3, 1 / (peak * conversations));
    if (burst !== void 0) {
      const inside = time % burst.every >= burst.every - burst.length;
      if (!inside && random3() >= 1 / burst.times) continue;
    }
    const shift = scenario.drift && time > duration / 2 ? 1 : 0;
    let model = draw(shift);
    if (hosts[model].length === 0) model = draw(0);
    const output = () => lengths(random3, 140, 0.7, 8, 800);
    if (turns === void 0) {
      const id = jobs.length;
      jobs.push({
        id,
        model,
        session: -1,
        prompt: lengths(random3, 350, 0.9, 20, 3e3),
        output: output(),
        arrival: time,
        next: -1,
        think: 0
      });
    } else {
      let prompt = lengths(random3, 600, 0.6, 100, 2e3);
      const count = 1 + Math.floor(exponential(random3, turns - 0.5));
      for (let turn = 0; turn < count && jobs.length < requests; turn++) {
        const id = jobs.length;
        const last = turn === count - 1 || id === requests - 1;
        const answer = output();
        jobs.push({
          id,
          model,
          session,
          prompt,
          output: answer,
          arrival: turn === 0 ? time : -1,
          next: last ? -1 : id + 1,
          think: turn === 0 ? 0 : 2 + exponential(random3, 8)
        });
        prompt = Math.min(8e3, prompt + answer + lengths(random3, 60, 0.8, 5, 600));
      }
      session++;
    }
  }
  return { jobs, duration: time };
};
var makeOutages = (count, duration, scenario, random3) => {
  const outages = [];
  const order2 = shuffled(
    Array.from({ length: count }, (_, i) => i),
    random3
  );
  let taken = 0;
  const some = (share) => {
    const from = taken;
    if (share > 0) taken += Math.max(1, Math.round(share * count));
    return order2.slice(from, taken);
  };
  for (const server of some(scenario.hung)) {
    const from = random3() < 0.5 ? 0 : random3() * duration / 2;
    outages.push({ server, mode: "hung", from, to: Number.POSITIVE_INFINITY });
  }
  for (const server of some(scenario.broken)) {
    outages.push({ server, mode: "error", from: 0, to: Number.POSITIVE_INFINITY });
  }
  for (const server of some(scenario.flapping)) {
    let time = exponential(random3, 60);
    while (time < duration * 2) {
      const to = time + 2 + exponential(random3, 20);
      outages.push({ server, mode: random3() < 0.5 ? "down" : "error", from: time, to });
      time = to + 5 + exponential(random3, 60);
    }
  }
  return outages;
};
var makeWorld = (scenario, count, requests, seed) => {
  const servers = makeServers(count, scenario, make2(seed * 4 + 1));
  const hosts = models.map(
    (_, model) => Int32Array.from(servers.flatMap((server, index) => server.models.includes(model) ? [index] : []))
  );
  const { jobs, duration } = makeJobs(servers, hosts, requests, scenario, make2(seed * 4 + 2));
  const outages = makeOutages(count, duration, scenario, make2(seed * 4 + 3));
  return { servers, hosts, jobs, outages, duration };
};

// bench/simulation/router.ts
var virtualClock = () => {
  const real = Clock2.make();
  return {
    ...real,
    now: 0,
    unsafeCurrentTimeMillis() {
      return this.now;
    },
    unsafeCurrentTimeNanos() {
      return BigInt(Math.round(this.now * 1e6));
    }
  };
};
var reasons = {
  error: "server-error",
  refused: "refused",
  timeout: "first-token-timeout",
  stalled: "idle-timeout",
  cut: "cut"
};
var make9 = (strategy) => (client) => {
  const clock3 = virtualClock();
  const fleet = Effect7.runSync(
    make.pipe(Effect7.provideService(CurrentSettings, empty), Effect7.withClock(clock3))
  );
  const hosts = models.map(
    ({ name }, model) => [...client.hosts(model)].map((server) => ({
      server: Either6.getOrThrow(fromOptions(`http://s${server}:11434`, "simulation")),
      protocol: "ollama",
      model: name,
      certain: true,
      performance: void 0
    }))
  );
  const indices = /* @__PURE__ */ new Map();
  hosts.forEach((list3, model) => {
    list3.forEach((host, at2) => void indices.set(host.server.url, client.hosts(model)[at2]));
  });
  const open = /* @__PURE__ */ new Map();
  const circumstances = { location: void 0, random: () => client.random() };
  const at = (now) => {
    clock3.now = 1e6 + now * 1e3;
  };
  return {
    ...deaf,
    choose(request, now) {
      at(now);
      const found = hosts[request.model];
      const order2 = order(
        strategy,
        found.map((host) => ({ host, snapshot: fleet.snapshot(host.server.url, host.model) })),
        circumstances
      );
      let i = 0;
      return {
        next() {
          const candidate = order2[i++];
          return candidate === void 0 ? nobody : indices.get(candidate.host.server.url);
        }
      };
    },
    start(server, request, now) {
      at(now);
      const name = models[request.model]?.name;
      open.set(request.id, { lease: fleet.lease(`http://s${server}:11434`, name), firstToken: void 0 });
    },
    firstToken(_server, request, time) {
      const entry = open.get(request.id);
      if (entry !== void 0) entry.firstToken = time * 1e3;
    },
    end(_server, request, counters, now) {
      at(now);
      const entry = open.get(request.id);
      open.delete(request.id);
      entry?.lease.succeed({ firstTokenTime: entry.firstToken, tokensPerSecond: counters.tokensPerSecond });
    },
    failed(_server, request, failure, now) {
      at(now);
      const entry = open.get(request.id);
      open.delete(request.id);
      entry?.lease.fail({ reason: reasons[failure], message: failure });
    },
    cancelled(_server, request, now) {
      at(now);
      open.get(request.id)?.lease.cancel();
      open.delete(request.id);
    }
  };
};
var contender = (strategy) => ({
  name: `router:${strategy}`,
  about: `the library's Router and Fleet, strategy ${strategy}`,
  attempts: Number.POSITIVE_INFINITY,
  // Orders all candidates anew for each request.
  limit: 1e3,
  make: make9(strategy)
});
var routers = [contender("random"), contender("fastest")];

// bench/simulation/engine.ts
var clientRules = {
  /** Until the first token of a model that `/api/ps` last showed in memory; of another. */
  firstTokenTimeout: 30,
  loadTimeout: 90,
  idleTimeout: 30,
  /** From the question to its first token, with all attempts. */
  patience: 120,
  /** Between two looks at `/api/ps`. */
  psInterval: 10
};
var keepAlive = 300;
var leastPrompt = 12;
var Agenda = class {
  times = new Float64Array(1024);
  orders = new Float64Array(1024);
  events = [];
  count = 0;
  order = 0;
  get size() {
    return this.count;
  }
  push(time, event) {
    if (this.count === this.times.length) {
      const grow = (old) => {
        const next = new Float64Array(old.length * 2);
        next.set(old);
        return next;
      };
      this.times = grow(this.times);
      this.orders = grow(this.orders);
    }
    const { times, orders, events } = this;
    const order2 = this.order++;
    let at = this.count++;
    while (at > 0) {
      const parent = at - 1 >> 1;
      if (times[parent] <= time) break;
      times[at] = times[parent];
      orders[at] = orders[parent];
      events[at] = events[parent];
      at = parent;
    }
    times[at] = time;
    orders[at] = order2;
    events[at] = event;
  }
  pop() {
    const { times, orders, events } = this;
    const result = { time: times[0], event: events[0] };
    const last = --this.count;
    const time = times[last];
    const order2 = orders[last];
    const event = events[last];
    let at = 0;
    for (; ; ) {
      let child = at * 2 + 1;
      if (child >= last) break;
      const right3 = child + 1;
      if (right3 < last && (times[right3] < times[child] || times[right3] === times[child] && orders[right3] < orders[child])) {
        child = right3;
      }
      const earlier = times[child];
      if (earlier > time || earlier === time && orders[child] > order2) break;
      times[at] = earlier;
      orders[at] = orders[child];
      events[at] = events[child];
      at = child;
    }
    times[at] = time;
    orders[at] = order2;
    events[at] = event;
    events.length = last;
    return result;
  }
};
var simulate = (world, scenario, contender2, seed) => {
  const agenda = new Agenda();
  const count = world.jobs.length;
  const ttft = new Float64Array(count).fill(Number.POSITIVE_INFINITY);
  const served = new Uint8Array(count);
  const tokens = new Float64Array(count);
  const perServer = new Int32Array(world.servers.length);
  const flights = /* @__PURE__ */ new Map();
  let now = 0;
  let over = 0;
  let attempts2 = 0;
  let holds = 0;
  let loads = 0;
  let evictions = 0;
  const machines2 = world.servers.map((spec, index) => ({
    spec,
    index,
    mode: "up",
    life: 0,
    runners: [],
    loads: [],
    loading: void 0,
    clock: 0,
    clockAt: 0,
    active: 0,
    version: 0,
    parked: []
  }));
  const woken = [];
  const clients = [];
  const seen = machines2.map(() => /* @__PURE__ */ new Set());
  const finish = (flight) => {
    flight.over = true;
    over++;
    flights.delete(flight.job.id);
    if (flight.job.next >= 0) {
      const next = world.jobs[flight.job.next];
      agenda.push(now + next.think, { type: "arrival", job: next });
    }
  };
  const proceed = (flight) => {
    flight.held = false;
    if (flight.attempts >= contender2.attempts) return finish(flight);
    const server = flight.pick.next(now);
    if (server === queue) {
      flight.held = true;
      holds++;
    } else if (server === nobody) finish(flight);
    else send(flight, machines2[server]);
  };
  const send = (flight, machine) => {
    const attempt = {
      flight,
      machine,
      sent: now,
      runner: void 0,
      slot: void 0,
      phase: "line",
      started: -1,
      promptTokens: 0,
      first: -1,
      target: 0
    };
    flight.attempt = attempt;
    flight.attempts++;
    attempts2++;
    clients[flight.client].start(machine.index, flight.request, now);
    if (machine.mode === "error" || machine.mode === "down") {
      const failure = machine.mode === "error" ? "error" : "refused";
      agenda.push(now + machine.spec.roundTrip, { type: "refusal", attempt, failure });
      return;
    }
    const warm2 = seen[machine.index].has(flight.job.model);
    const wait = warm2 ? clientRules.firstTokenTimeout : clientRules.loadTimeout;
    agenda.push(now + wait, { type: "silence", attempt, phase: "first" });
    accept(machine, attempt);
  };
  const fail2 = (attempt, failure) => {
    const { flight } = attempt;
    withdraw(attempt);
    flight.attempt = void 0;
    if (attempt.first >= 0) {
      const { prompt, ...rest } = flight.request;
      const said = Math.max(0, flight.answered);
      flight.request = { ...rest, prompt: Math.max(prompt, flight.job.prompt + said) };
    }
    const policy = clients[flight.client];
    policy.failed(attempt.machine.index, flight.request, failure, now);
    proceed(flight);
  };
  const advance = (machine) => {
    if (machine.active > 0 && machine.mode === "up") {
      machine.clock += (now - machine.clockAt) / (1 + crowding * (machine.active - 1));
    }
    machine.clockAt = now;
  };
  const arm = (machine) => {
    const version = ++machine.version;
    if (machine.active === 0 || machine.mode !== "up") return;
    let least = Number.POSITIVE_INFINITY;
    for (const runner of machine.runners) {
      for (const attempt of runner.active) if (attempt.target < least) least = attempt.target;
    }
    const wait = Math.max(0, least - machine.clock) * (1 + crowding * (machine.active - 1));
    agenda.push(now + wait, { type: "work", machine, version });
  };
  const idle = (runner) => runner.active.length === 0 && runner.line.length === 0;
  const expire = (machine) => {
    for (let i = machine.runners.length - 1; i >= 0; i--) {
      const runner = machine.runners[i];
      if (runner.state === "ready" && idle(runner) && now - runner.used > keepAlive) machine.runners.splice(i, 1);
    }
  };
  const newRunner = (machine, model) => ({
    model,
    state: "waiting",
    active: [],
    line: [],
    slots: Array.from({ length: machine.spec.parallel }, () => ({ session: -1, tokens: 0, busy: false, used: 0 })),
    readyAt: 0,
    used: now
  });
  const accept = (machine, attempt) => {
    if (machine.mode === "hung") {
      attempt.phase = "parked";
      machine.parked.push(attempt);
      return;
    }
    expire(machine);
    const { model } = attempt.flight.job;
    let runner = machine.runners.find((runner2) => runner2.model === model);
    if (runner === void 0) {
      runner = newRunner(machine, model);
      machine.runners.push(runner);
      machine.loads.push(runner);
    }
    attempt.runner = runner;
    runner.line.push(attempt);
    pump(machine, runner);
    load(machine);
  };
  const pump = (machine, runner) => {
    if (runner.state !== "ready") return;
    while (runner.line.length > 0 && runner.active.length < machine.spec.parallel) {
      const attempt = runner.line.shift();
      const { flight } = attempt;
      const { session } = flight.request;
      let slot;
      for (const candidate of runner.slots) {
        if (candidate.busy) continue;
        if (session >= 0 && candidate.session === session) {
          slot = candidate;
          break;
        }
        if (slot === void 0 || candidate.used < slot.used) slot = candidate;
      }
      if (slot === void 0) throw new Error("There is no free slot.");
      const cached2 = session >= 0 && slot.session === session ? slot.tokens : 0;
      slot.session = session;
      slot.busy = true;
      attempt.slot = slot;
      attempt.promptTokens = Math.max(leastPrompt, flight.request.prompt - cached2);
      attempt.phase = "prompt";
      attempt.started = now;
      advance(machine);
      const model = models[flight.job.model];
      attempt.target = machine.clock + attempt.promptTokens * model.cost / machine.spec.prefill;
      runner.active.push(attempt);
      runner.used = now;
      machine.active++;
      arm(machine);
    }
  };
  const load = (machine) => {
    while (machine.mode === "up" && machine.loading === void 0 && machine.loads.length > 0) {
      const runner = machine.loads[0];
      const need = footprint(models[runner.model]);
      let free = machine.spec.memory;
      let draining = false;
      let victim;
      let busy;
      for (const other of machine.runners) {
        if (other.state === "waiting") continue;
        free -= footprint(models[other.model]);
        if (other.state === "draining") draining = true;
        else if (idle(other)) victim = victim === void 0 || other.used < victim.used ? other : victim;
        else if (busy === void 0 || other.active.length < busy.active.length) busy = other;
      }
      if (free >= need - 1e-9) {
        machine.loads.shift();
        machine.loading = runner;
        runner.state = "loading";
        loads++;
        const time = loadTime(machine.spec, models[runner.model]);
        runner.readyAt = now + time;
        agenda.push(now + time, { type: "loaded", machine, runner, life: machine.life });
      } else if (victim !== void 0) {
        evictions++;
        machine.runners.splice(machine.runners.indexOf(victim), 1);
      } else {
        if (!draining && busy !== void 0) busy.state = "draining";
        return;
      }
    }
  };
  const settle = (machine, runner) => {
    if (runner.state === "draining" && runner.active.length === 0) {
      evictions++;
      machine.runners.splice(machine.runners.indexOf(runner), 1);
      if (runner.line.length > 0) {
        const again = newRunner(machine, runner.model);
        for (const attempt of runner.line) {
          attempt.runner = again;
          again.line.push(attempt);
        }
        machine.runners.push(again);
        machine.loads.push(again);
      }
      load(machine);
    } else {
      pump(machine, runner);
      if (machine.loads.length > 0) load(machine);
    }
  };
  const withdraw = (attempt) => {
    const { machine, runner } = attempt;
    const phase = attempt.phase;
    if (phase === "over") return;
    if (phase === "answer") {
      advance(machine);
      const { flight } = attempt;
      const left4 = (attempt.target - machine.clock) / decodeTime(machine, flight.job);
      flight.answered = Math.min(flight.job.output - 1, Math.max(flight.answered, Math.floor(flight.job.output - left4)));
    }
    attempt.phase = "over";
    if (phase === "parked") {
      const at = machine.parked.indexOf(attempt);
      if (at >= 0) machine.parked.splice(at, 1);
    }
    if (runner === void 0) return;
    if (phase === "line") {
      runner.line.splice(runner.line.indexOf(attempt), 1);
      if (runner.state === "waiting" && runner.line.length === 0) {
        machine.loads.splice(machine.loads.indexOf(runner), 1);
        machine.runners.splice(machine.runners.indexOf(runner), 1);
        load(machine);
      }
    } else if (phase === "prompt" || phase === "answer") {
      advance(machine);
      leave(attempt);
      if (machine.mode === "up") settle(machine, runner);
      arm(machine);
    }
  };
  const leave = (attempt) => {
    const { machine, runner, slot } = attempt;
    if (runner === void 0 || slot === void 0) return;
    runner.active.splice(runner.active.indexOf(attempt), 1);
    machine.active--;
    runner.used = now;
    slot.busy = false;
    slot.used = now;
    slot.tokens = attempt.first < 0 ? 0 : attempt.flight.request.prompt + attempt.flight.job.output;
  };
  const decodeTime = (machine, job) => models[job.model].cost / machine.spec.decode;
  const work = (machine) => {
    advance(machine);
    const done = [];
    for (const runner of machine.runners) {
      for (const attempt of runner.active) if (attempt.target <= machine.clock + 1e-9) done.push(attempt);
    }
    for (const attempt of done) {
      const { flight } = attempt;
      const policy = clients[flight.client];
      if (attempt.phase === "prompt") {
        attempt.phase = "answer";
        attempt.first = now;
        const left4 = flight.job.output - flight.answered;
        attempt.target = machine.clock + left4 * decodeTime(machine, flight.job);
        if (flight.first < 0) {
          flight.first = now;
          ttft[flight.job.id] = now - flight.arrival + machine.spec.roundTrip;
        }
        policy.firstToken(machine.index, flight.request, now - attempt.sent + machine.spec.roundTrip, now);
      } else {
        const runner = attempt.runner;
        attempt.phase = "over";
        flight.attempt = void 0;
        leave(attempt);
        served[flight.job.id] = 1;
        tokens[flight.job.id] = flight.job.output;
        perServer[machine.index] = perServer[machine.index] + 1;
        const fresh = flight.job.output - flight.answered;
        policy.end(
          machine.index,
          flight.request,
          {
            tokens: fresh,
            tokensPerSecond: fresh / Math.max(1e-6, now - attempt.first),
            promptTokens: attempt.promptTokens,
            promptTime: attempt.first - attempt.started,
            loadTime: Math.max(0, runner.readyAt - attempt.sent),
            waitTime: attempt.started - Math.max(attempt.sent, runner.readyAt)
          },
          now
        );
        finish(flight);
        settle(machine, runner);
      }
    }
    arm(machine);
  };
  const everything = (machine) => [
    ...machine.runners.flatMap((runner) => [...runner.active, ...runner.line]),
    ...machine.parked
  ];
  const outage = (machine, mode) => {
    advance(machine);
    const hadHung = machine.mode === "hung";
    const before = everything(machine);
    machine.life++;
    if (mode === "hung") {
      machine.mode = mode;
      machine.version++;
      for (const attempt of before) {
        if (attempt.phase === "answer") {
          agenda.push(now + clientRules.idleTimeout, { type: "silence", attempt, phase: "idle" });
        }
      }
      return;
    }
    if (mode !== "up" || hadHung) {
      for (const attempt of before) {
        if (attempt.phase === "answer") {
          const left4 = (attempt.target - machine.clock) / decodeTime(machine, attempt.flight.job);
          const { flight } = attempt;
          flight.answered = Math.min(
            flight.job.output - 1,
            Math.max(flight.answered, Math.floor(flight.job.output - left4))
          );
        }
        attempt.phase = "over";
      }
    }
    machine.mode = mode;
    machine.runners = [];
    machine.loads = [];
    machine.loading = void 0;
    machine.parked = [];
    machine.active = 0;
    machine.version++;
    if (mode !== "up" || hadHung) {
      for (const attempt of before) {
        agenda.push(now + machine.spec.roundTrip, { type: "refusal", attempt, failure: "cut" });
      }
    }
  };
  const outagesOf = machines2.map(() => []);
  for (const { server, from, to } of world.outages) outagesOf[server]?.push({ from, to });
  const predict = (index, request, bound) => {
    const machine = machines2[index];
    const { spec } = machine;
    if (machine.mode !== "up") return Number.POSITIVE_INFINITY;
    const model = models[request.model];
    expire(machine);
    const runner = machine.runners.find((runner2) => runner2.model === request.model);
    let cached2 = 0;
    if (runner !== void 0 && request.session >= 0) {
      for (const slot of runner.slots) if (!slot.busy && slot.session === request.session) cached2 = slot.tokens;
    }
    const prompt = Math.max(leastPrompt, request.prompt - cached2) * model.cost / spec.prefill;
    let time = spec.roundTrip;
    const crowd = (active) => 1 + crowding * (active - 1);
    if (time + prompt * crowd(machine.active + 1) * 0.999 >= bound && machine.active === 0) return bound;
    advance(machine);
    const remaining = [];
    for (const other of machine.runners) {
      for (const attempt of other.active) {
        const { job, answered } = attempt.flight;
        const rest = attempt.phase === "prompt" ? (job.output - answered) * decodeTime(machine, job) : 0;
        remaining.push({ work: attempt.target - machine.clock + rest, mine: other === runner });
      }
    }
    remaining.sort((a, b) => a.work - b.work);
    if (runner === void 0 || runner.state !== "ready") {
      let start = 0;
      if (runner?.state === "loading") {
        start = runner.readyAt - now;
      } else {
        if (machine.loading !== void 0) start = machine.loading.readyAt - now;
        for (const other of machine.loads) {
          if (other !== runner) start += loadTime(spec, models[other.model]);
        }
        let free = spec.memory;
        let idleMemory = 0;
        for (const other of machine.runners) {
          if (other.state === "waiting") continue;
          const size = footprint(models[other.model]);
          free -= size;
          if (idle(other)) idleMemory += size;
        }
        if (free + idleMemory < footprint(model)) {
          let drained = 0;
          for (let i = 0, left4 = remaining.length, done = 0; i < remaining.length; i++, left4--) {
            const next = remaining[i];
            drained += (next.work - done) * crowd(left4);
            done = next.work;
          }
          start = Math.max(start, drained);
        }
        start += loadTime(spec, model);
      }
      time += start + prompt * (1 + crowding * Math.min(1, remaining.length));
      for (const waiting of runner?.line ?? [])
        time += waiting.flight.job.output * decodeTime(machine, waiting.flight.job) / spec.parallel;
    } else {
      const line = runner.line.map(({ flight }) => {
        const at = flight.request.prompt * model.cost / spec.prefill;
        return at + (flight.job.output - flight.answered) * decodeTime(machine, flight.job);
      });
      let mine = 0;
      for (const entry of remaining) if (entry.mine) mine++;
      let free = spec.parallel - mine;
      let left4 = prompt;
      let started = false;
      while (time < bound) {
        while (free > 0 && line.length > 0) {
          const next2 = line.shift();
          remaining.push({ work: next2, mine: true });
          remaining.sort((a, b) => a.work - b.work);
          free--;
        }
        if (!started && free > 0) started = true;
        const slow = crowd(remaining.length + (started ? 1 : 0));
        const next = remaining[0];
        if (started && (next === void 0 || left4 <= next.work)) {
          time += left4 * slow;
          break;
        }
        if (next === void 0) break;
        const step = Math.max(0, next.work);
        time += step * slow;
        if (started) left4 -= step;
        remaining.shift();
        for (const other of remaining) other.work -= step;
        if (next.mine) free++;
      }
    }
    for (const { from, to } of outagesOf[index] ?? []) {
      if (from < now + time && to > now) return Number.POSITIVE_INFINITY;
    }
    return time;
  };
  for (let client = 0; client < scenario.clients; client++) {
    const view = {
      servers: machines2.length,
      models: models.length,
      hosts: (model) => world.hosts[model],
      random: make2(seed * 977 + client * 31 + 7),
      wake: (id) => void woken.push(id)
    };
    clients.push(contender2.make(view, { predict }));
  }
  for (const job of world.jobs) if (job.arrival >= 0) agenda.push(job.arrival, { type: "arrival", job });
  for (const { server, mode, from, to } of world.outages) {
    const machine = machines2[server];
    agenda.push(from, { type: "outage", machine, mode });
    if (Number.isFinite(to)) agenda.push(to, { type: "outage", machine, mode: "up" });
  }
  const jitter = make2(seed * 977 + 5);
  for (const machine of machines2) {
    for (const model of machine.spec.loaded) {
      const runner = newRunner(machine, model);
      runner.state = "ready";
      machine.runners.push(runner);
    }
    if (clientRules.psInterval > 0) {
      agenda.push(0, { type: "ps", machine });
      agenda.push(jitter() * clientRules.psInterval, { type: "ps", machine });
    }
  }
  agenda.push(1, { type: "tick" });
  const look = (machine, again) => {
    if (machine.mode === "down") return;
    expire(machine);
    const list3 = [];
    const known = seen[machine.index];
    known.clear();
    for (const runner of machine.runners) {
      if (runner.state === "ready" || runner.state === "draining") {
        list3.push(runner.model);
        known.add(runner.model);
      }
    }
    for (const policy of clients) policy.ps(machine.index, list3, now);
    if (again) agenda.push(now + clientRules.psInterval * (0.9 + 0.2 * jitter()), { type: "ps", machine });
  };
  while (over < count && agenda.size > 0) {
    const { time, event } = agenda.pop();
    now = time;
    switch (event.type) {
      case "arrival": {
        const { job } = event;
        const client = (job.session >= 0 ? job.session : job.id) % scenario.clients;
        const request = { id: job.id, model: job.model, prompt: job.prompt, session: job.session };
        const flight = {
          job,
          client,
          arrival: now,
          request,
          pick: clients[client].choose(request, now),
          attempt: void 0,
          attempts: 0,
          held: false,
          first: -1,
          answered: 0,
          over: false
        };
        flights.set(job.id, flight);
        agenda.push(now + clientRules.patience, { type: "patience", flight });
        proceed(flight);
        break;
      }
      case "work":
        if (event.version === event.machine.version) work(event.machine);
        break;
      case "loaded": {
        const { machine, runner } = event;
        if (event.life !== machine.life || machine.loading !== runner) break;
        machine.loading = void 0;
        runner.state = "ready";
        runner.readyAt = now;
        runner.used = now;
        pump(machine, runner);
        load(machine);
        break;
      }
      case "silence": {
        const { attempt, phase } = event;
        if (attempt.phase === "over") break;
        if (phase === "first" && attempt.first >= 0) break;
        fail2(attempt, phase === "first" ? "timeout" : "stalled");
        break;
      }
      case "refusal": {
        const { attempt, failure } = event;
        if (attempt.flight.attempt === attempt) {
          attempt.phase = "over";
          fail2(attempt, failure);
        }
        break;
      }
      case "patience": {
        const { flight } = event;
        if (flight.over || flight.first >= 0) break;
        const policy = clients[flight.client];
        const { attempt } = flight;
        if (attempt !== void 0) {
          flight.attempt = void 0;
          withdraw(attempt);
          policy.cancelled(attempt.machine.index, flight.request, now);
        } else if (flight.held) policy.gone(flight.request, now);
        finish(flight);
        break;
      }
      case "outage":
        outage(event.machine, event.mode);
        break;
      case "ps":
        look(event.machine, now > 0);
        break;
      case "tick":
        for (const policy of clients) policy.tick(now);
        agenda.push(now + 1, { type: "tick" });
        break;
    }
    while (woken.length > 0) {
      const flight = flights.get(woken.shift());
      if (flight?.held === true) proceed(flight);
    }
  }
  return { ttft, served, tokens, attempts: attempts2, held: holds, loads, evictions, perServer, ended: now };
};

// bench/simulation/scenarios.ts
var steady = {
  name: "steady",
  about: "healthy servers, half busy, memory full of models",
  load: 0.5,
  only: void 0,
  parallel: void 0,
  memory: 1,
  placement: 0.7,
  warm: true,
  drift: false,
  bursts: void 0,
  turns: void 0,
  hung: 0,
  broken: 0,
  flapping: 0,
  clients: 1
};
var scenarios = [
  steady,
  { ...steady, name: "busy", about: "the same with nine tenths of the traffic that the fleet can bear", load: 0.8 },
  {
    ...steady,
    name: "uniform",
    about: "one model, in the memory of every server: nothing but unequal speeds",
    only: 1,
    placement: 1,
    load: 0.6
  },
  {
    ...steady,
    name: "bursts",
    about: "10 s of five times the traffic in every minute",
    load: 0.4,
    bursts: { every: 60, length: 10, times: 5 }
  },
  { ...steady, name: "one-slot", about: "servers that answer one request at a time", parallel: 1 },
  { ...steady, name: "hung", about: "2 % of the servers accept and never answer", hung: 0.02 },
  { ...steady, name: "error", about: "5 % of the servers answer 500 at once", broken: 0.05 },
  { ...steady, name: "flapping", about: "10 % of the servers go for 20 s in every 80 s", flapping: 0.1 },
  {
    ...steady,
    name: "cold",
    about: "nothing loaded, little memory, and the popular models change halfway",
    load: 0.35,
    memory: 0.75,
    warm: false,
    drift: true
  },
  { ...steady, name: "sessions", about: "conversations of 6 turns whose prompts grow", turns: 6 },
  { ...steady, name: "replicas", about: "the traffic comes from 4 gateways that do not see each other", clients: 4 },
  {
    ...steady,
    name: "everything",
    about: "bursts of conversations, and hung, broken and flapping servers",
    load: 0.4,
    bursts: { every: 60, length: 10, times: 4 },
    turns: 4,
    hung: 0.02,
    broken: 0.05,
    flapping: 0.05
  }
];

// bench/simulation/metrics.ts
var objective = 10;
var quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))];
var measure = (world, outcome, patience) => {
  const waits = outcome.ttft.map((time) => Math.min(time, patience)).sort();
  let sum = 0;
  for (const wait of waits) sum += wait;
  let failed = 0;
  let good = 0;
  for (let id = 0; id < outcome.served.length; id++) {
    if (outcome.served[id] === 0) failed++;
    else if (outcome.ttft[id] <= objective) good += outcome.tokens[id];
  }
  const shares = outcome.perServer.slice().sort().reverse();
  const busiest = shares.slice(0, Math.max(1, Math.round(shares.length / 10))).reduce((a, b) => a + b, 0);
  const all2 = shares.reduce((a, b) => a + b, 0);
  return {
    p50: quantile(waits, 0.5),
    p99: quantile(waits, 0.99),
    mean: sum / waits.length,
    failed,
    loads: outcome.loads,
    attempts: outcome.attempts,
    goodput: good / world.duration,
    top: all2 === 0 ? 0 : busiest / all2,
    unused: shares.reduce((count, share) => share === 0 ? count + 1 : count, 0)
  };
};
var spread = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  const upper = sorted[half] ?? Number.NaN;
  const median = sorted.length % 2 === 1 ? upper : ((sorted[half - 1] ?? upper) + upper) / 2;
  return { median, min: sorted[0] ?? Number.NaN, max: sorted[sorted.length - 1] ?? Number.NaN };
};

// ../try.ts
var [n, seeds, which, set] = process.argv.slice(2);
var base = [random, roundRobin, leastConnections, twoChoices, ...routers, oracle, ours];
var list2 = set === "ab" ? [oracle, ours, ...ablations] : set === "core" ? [random, oracle, ours] : base;
for (const sc of scenarios) {
  if (which && which !== "all" && !which.split(",").includes(sc.name)) continue;
  console.log("#", sc.name);
  const ms = list2.map(() => []);
  let w;
  const t = list2.map(() => 0);
  for (let seed = 1; seed <= Number(seeds); seed++) {
    w = makeWorld(sc, Number(n), requestsFor(Number(n)), seed);
    list2.forEach((c, i) => {
      if (Number(n) > (c.limit ?? 1e9)) return;
      const t0 = performance.now();
      ms[i].push(measure(w, simulate(w, sc, c, seed), clientRules.patience));
      t[i] += performance.now() - t0;
    });
  }
  console.log("duration", w.duration.toFixed(0), "rate", (w.jobs.length / w.duration).toFixed(2));
  list2.forEach((c, i) => {
    if (!ms[i].length) return;
    const f = (k, d = 2) => {
      const s = spread(ms[i].map((m) => m[k]));
      return `${s.median.toFixed(d)} (${s.min.toFixed(d)}-${s.max.toFixed(d)})`;
    };
    console.log(c.name.padEnd(18), "p50", f("p50").padEnd(20), "p99", f("p99").padEnd(22), "mean", f("mean").padEnd(18), "fail", f("failed", 0).padEnd(12), "loads", f("loads", 0).padEnd(18), "att", f("attempts", 0).padEnd(10), "good", f("goodput", 0).padEnd(16), "top", f("top").padEnd(16), "ms", (t[i] / ms[i].length).toFixed(0));
  });
}
