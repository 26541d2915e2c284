// A Firestore protocol server on a free port of this machine, for tests. It prints the port as one
// line of JSON and ends when its standard input ends, so that it never outlives whoever started it.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { ServerCredentials } = require("@grpc/grpc-js");
const {
  FirestoreServer,
  FirestoreStateCollection,
  FirestoreStateDocument,
} = require("@firestore-emulator/server");
const { setAutoFreeze } = require("immer");

// The package freezes all that it stores and copies a collection for each document that joins it,
// so that a few thousand documents take minutes. These do the same without.
setAutoFreeze(false);
FirestoreStateCollection.prototype.getDocument = function (name) {
  this.documents[name] ??= new FirestoreStateDocument(
    this.emitter,
    this.database,
    this,
    name,
    {},
    {},
  );
  return this.documents[name];
};

const { server } = new FirestoreServer();
// The package takes messages of 4 MiB at most, Firestore takes 10 MiB.
server.options = { ...server.options, "grpc.max_receive_message_length": 10 * 1024 * 1024 };
server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(JSON.stringify({ port }));
});

process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
