// Portkey's gateway listens on every address; a bench has no business there.
const { Server } = require("node:net")
const { listen } = Server.prototype
Server.prototype.listen = function (...args) {
  const given = typeof args[0] === "object" && args[0] !== null ? args[0] : { port: args[0] }
  const callback = args.find((arg) => typeof arg === "function")
  this.once("listening", () =>
    process.stdout.write(`${JSON.stringify({ url: `http://127.0.0.1:${this.address().port}` })}\n`)
  )
  return listen.call(this, { ...given, port: 0, host: "127.0.0.1" }, callback)
}
