// Send a campaign once to each member of a segment, without contacts who unsubscribed.
//
//     TOKEN=… node examples/node/campaign.mjs "VIPs" spring-launch

import { setTimeout as sleep } from 'node:timers/promises';

import { AudienceClient } from './audience.mjs';

const { ADDRESS = 'http://127.0.0.1:8080', ORG = 'demo', TOKEN, PURPOSE = 'email' } = process.env;
const [segmentName, campaign] = process.argv.slice(2);
if (!campaign || !TOKEN) {
  console.error('usage: TOKEN=… node examples/node/campaign.mjs SEGMENT CAMPAIGN');
  process.exit(2);
}
process.on('uncaughtException', (error) => {
  console.error(error.cause?.message ?? error.message);
  process.exit(1);
});
const client = new AudienceClient({ url: ADDRESS, org: ORG, token: () => TOKEN });

/** Stands for your email provider, with the campaign and the member's id as its idempotency key. */
function deliver(member) {
  console.log(`${campaign} ${member.id} ${member.fields.email}`);
}

let segment; // of the segments whose names contain the text, the one that has the name
for await (const each of client.list('/segments', 'segments', { name: segmentName })) {
  if (each.name === segmentName) segment = each;
}
if (!segment) throw new Error(`no segment has the name ${segmentName}`);

const selection = { audienceId: segment.id, purpose: PURPOSE };
console.error(`about ${(await client.call('POST', '/estimate-reach', selection)).count} recipients`);

// A snapshot fixes the recipients. The same requestId returns the same snapshot, also after a crash of this script.
let snapshot = await client.call('POST', '/snapshots', { ...selection, name: campaign, requestId: campaign });
while (snapshot.creationState === 'CREATION_STATE_CREATING') {
  await sleep(500);
  snapshot = await client.call('GET', `/snapshots/${snapshot.id}`);
}
if (snapshot.creationState !== 'CREATION_STATE_READY') throw new Error(`${snapshot.id} failed: ${snapshot.error}`);

let count = 0;
for await (const { members } of client.stream('/stream-members', { snapshotId: snapshot.id, fields: ['email'] })) {
  members.forEach(deliver);
  count += members.length;
}
console.error(`sent to ${count} of ${snapshot.count} recipients`);
