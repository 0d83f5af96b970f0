/** The gateway inside an HTTP server of your own, beside routes of your own. */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { HttpRouter, HttpServer, HttpServerResponse } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { Cortex, Gateway } from "aicortex"
import { Effect, Layer } from "effect"

const http = createServer()

const server = HttpRouter.empty.pipe(
  HttpRouter.get("/", HttpServerResponse.text("my own page")),
  HttpRouter.mountApp("/llm", Gateway.app),
  HttpServer.serve(),
  Layer.provide(Gateway.layer({ aliases: { assistant: "aicortex-demo" } })),
  Layer.provide(Cortex.layer({ servers: [] })),
  Layer.provide(NodeHttpServer.layer(() => http, { port: 0 }))
)

const program = Effect.gen(function* () {
  yield* Layer.build(server)
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}`
  yield* Effect.promise(async () => {
    console.log(await (await fetch(url)).text()) // => my own page
    const response = await fetch(`${url}/llm/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        model: "assistant",
        temperature: 0,
        messages: [{ role: "user", content: "What is the capital of France?" }]
      })
    })
    const { choices } = (await response.json()) as { choices: [{ message: { content: string } }] }
    console.log(choices[0].message.content) // => The capital of France is Paris.
  })
})

// A real application calls Layer.launch(server), which serves until it is stopped.
await Effect.runPromise(Effect.scoped(program))
