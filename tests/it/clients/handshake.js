// Node's own HTTPS client, one request: words like name=good.test port=8443 ca=ca.pem. Prints the status of the answer,
// or what the error says.

const fs = require('fs');
const https = require('https');

const words = Object.fromEntries(process.argv.slice(2).map((word) => word.split(/=(.*)/s, 2)));
const options = {
  host: '127.0.0.1',
  port: words.port,
  servername: words.name,
  headers: { host: words.name },
  agent: false,
  ca: fs.readFileSync(words.ca),
  minVersion: words.version,
  maxVersion: words.version,
  ciphers: words.ciphers,
  ecdhCurve: words.groups,
  sigalgs: words.schemes,
  ALPNProtocols: words.alpn && words.alpn.split(','),
};
if (words.identity) {
  options.cert = fs.readFileSync(`${words.identity}.pem`);
  options.key = fs.readFileSync(`${words.identity}.key`);
}
for (const name of Object.keys(options)) {
  if (options[name] === undefined) delete options[name];
}
https
  .get(options, (answer) => {
    answer.resume();
    answer.on('end', () => console.log(`status ${answer.statusCode}`));
  })
  .on('error', (error) => console.log(`${error.code}: ${error.message}`));
